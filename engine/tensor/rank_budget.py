"""Ranks of several layers under one budget of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.tensor.bit_budget import least_loss
from engine.tensor.splits import Ranks, Split


def within(splits: Sequence[Split], budget: int) -> list[Ranks | None]:
    """Ranks of each layer, or None where it stays whole, with at most `budget` weights in all of them.

    The shares of energy that the layers lose add up to the least that is possible, exactly. Where even the
    lowest ranks have more weights, these are chosen.

    >>> import torch
    >>> from engine.tensor import factors
    >>> from engine.tensor.splits import Pair
    >>> one, other = torch.diag(torch.tensor([9.0, 1.0, 1.0])), torch.diag(torch.tensor([3.0, 3.0, 3.0]))
    >>> within([Pair(factors.decompose(each, "linear")) for each in (one, other)], 15)
    [(1,), None]
    """
    costs = [[*split.options.weights.tolist(), math.prod(split.shape)] for split in splits]
    losses = [[*split.options.lost.tolist(), 0.0] for split in splits]
    choice = least_loss(costs, losses, max(budget, sum(map(min, costs))))
    ranks: list[list[Ranks | None]] = [[*split.options.ranks, None] for split in splits]
    return [own[place] for own, place in zip(ranks, choice.places, strict=True)]


def fewest(split: Split) -> int:
    """Weights of the layer at its lowest ranks; of the whole one where these save nothing."""
    return int(min([*split.options.weights[:1].tolist(), math.prod(split.shape)]))
