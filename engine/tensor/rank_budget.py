"""Ranks of several layers under one budget of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.tensor.bit_budget import least_loss
from engine.tensor.splits import Options, Ranks, Split


def within(
    splits: Sequence[Split], budget: int, options: Sequence[Options] | None = None
) -> list[Ranks | None]:
    """Ranks of each layer, or None where it stays whole, with at most `budget` weights in all of them.

    What the layers lose adds up to the least that is possible, exactly: shares of their energy, or what the
    given `options` say, in the order of the splits. A whole layer loses nothing. Where even the lowest ranks
    have more weights, these are chosen.

    >>> import torch
    >>> from engine.tensor import factors
    >>> from engine.tensor.splits import Pair
    >>> one, other = torch.diag(torch.tensor([9.0, 1.0, 1.0])), torch.diag(torch.tensor([3.0, 3.0, 3.0]))
    >>> within([Pair(factors.decompose(each, "linear")) for each in (one, other)], 15)
    [(1,), None]
    """
    known = [split.options for split in splits] if options is None else options
    whole = [math.prod(split.shape) for split in splits]
    costs = [[*own.weights.tolist(), most] for own, most in zip(known, whole, strict=True)]
    losses = [[*own.lost.tolist(), 0.0] for own in known]
    choice = least_loss(costs, losses, max(budget, sum(map(min, costs))))
    ranks: list[list[Ranks | None]] = [[*own.ranks, None] for own in known]
    return [own[place] for own, place in zip(ranks, choice.places, strict=True)]


def fewest(weights: int, options: Options) -> int:
    """Weights of a layer at its lowest ranks; of the whole one where these save nothing."""
    return min([weights, *map(int, options.weights)])
