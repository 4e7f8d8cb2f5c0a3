"""Masks: which weights stay. True is kept, False is removed (set to exactly zero).

By magnitude, or by any score (`engine.tensor.scores`) in any shape: single weights, N of M in a row, blocks,
kernels, filters or channels; inside each layer or over all. Weights that are zero already count as
removed. Nothing here knows of nets or of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.tensor.grids import sum_of_squares
from engine.types import Param, SlimscopeError

UNITS = ("element", "block", "kernel", "filter", "channel")
NORMS = {"l1": 1, "l2": 2}
ALLOCATIONS = ("layer", "global", "erk")
GONE = -math.inf  # the score of what is zero already: below every other


def by_sparsity(values: Tensor, sparsity: float) -> Tensor:
    """Keep all but the `round(sparsity * n)` weights of smallest magnitude.

    Among equal magnitudes the first in memory order are removed, so that the count is exact
    and the mask is the same on every run. Zeros are removed even beyond that count.

    >>> by_sparsity(torch.tensor([3.0, -1.0, 2.0, 1.0]), 0.25).tolist()
    [True, False, True, True]
    """
    return by_sparsity_over([values], sparsity)[0]


def by_sparsity_over(tensors: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """As `by_sparsity`, with the weights of all tensors competing in one ranking.

    Ties go to the earlier tensor first. Masks have the shapes of their tensors.
    """
    if not tensors:
        return []
    magnitude = torch.cat([t.detach().abs().flatten() for t in tensors])
    kept = _largest(magnitude, round(sparsity * len(magnitude)))
    parts = torch.split(kept, [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def _largest(scores: Tensor, removed: int, floor: float = 0.0) -> Tensor:
    """Mask over flat scores without the `removed` smallest; partition is O(n), sorting is not.

    Nothing at `floor` stays: that is the score of what is zero already.
    """
    if removed == 0:
        return scores > floor
    cut = float(np.partition(scores.numpy(), removed - 1)[removed - 1])
    kept = scores > cut
    surplus = int((~kept).sum()) - removed  # ties at the cut that may stay
    if surplus > 0 and cut > floor:
        ties = (scores == cut).nonzero().flatten()
        kept[ties[len(ties) - surplus :]] = True
    return kept


# ---------------------------------------------------------------- any score, any shape


def units(size: Sequence[int], granularity: str, block: int = 4) -> Tensor:
    """Which unit each weight of a tensor of this size is in: numbers from 0, in the tensor's own shape.

    `element`: each weight by itself. `filter`: an output, that is a row of axis 0. `channel`: an input,
    that is a column of axis 1. `kernel`: what connects one input to one output, for tensors of more than
    two axes. `block`: squares of `block` x `block` in the matrix (outputs, all the rest); those at the
    right and lower edge are smaller where the sides are no multiples. Raises SlimscopeError for
    another granularity, or kernels where there are none.

    >>> units((2, 3), "block", 2).tolist()
    [[0, 0, 1], [0, 0, 1]]
    """
    rows, inputs, rest = size[0], size[1], math.prod(size[2:])
    match granularity:
        case "element":
            found = torch.arange(rows * inputs * rest)
        case "block":
            down, across = torch.arange(rows) // block, torch.arange(inputs * rest) // block
            found = down[:, None] * -(-(inputs * rest) // block) + across
        case "kernel" if len(size) > 2:
            found = torch.arange(rows * inputs)[:, None].expand(-1, rest)
        case "kernel":
            raise SlimscopeError(f"a weight of size {tuple(size)} has no kernels: allowed are convolutions")
        case "filter":
            found = torch.arange(rows)[:, None].expand(-1, inputs * rest)
        case "channel":
            found = torch.arange(inputs)[None, :, None].expand(rows, -1, rest)
        case _:
            raise SlimscopeError(f"granularity is {granularity!r}: allowed is one of {', '.join(UNITS)}")
    return found.reshape(tuple(size))


def by_score(
    values: Tensor,
    scores: Tensor | None,
    sparsity: float,
    granularity: str = "element",
    *,
    block: int = 4,
    norm: str = "l1",
) -> Tensor:
    """Keep all but the `round(sparsity * n)` units of smallest score, out of n.

    `scores` has the shape of `values`; None stands for magnitudes. Ties are broken as in `by_sparsity`,
    which this is for magnitudes and single weights. A unit's score is the mean of its weights' (`l1`), or
    the root of the mean of their squares (`l2`): L1 and L2 norm per weight, so that units of
    different sizes compare. Units in which all is zero already are removed even beyond that count; where
    units differ in size, as many go as bring the weights in them nearest to `sparsity` times
    all. Raises SlimscopeError as `units` does.

    >>> by_score(torch.tensor([[1.0, 5.0], [-3.0, 2.0]]), None, 0.5, "filter").tolist()
    [[True, True], [False, False]]
    """
    rated = None if scores is None else [scores]
    return by_score_over([values], rated, sparsity, granularity, block=block, norm=norm)[0]


def by_score_over(
    values: Sequence[Tensor],
    scores: Sequence[Tensor] | None,
    sparsity: float,
    granularity: str = "element",
    *,
    block: int = 4,
    norm: str = "l1",
) -> list[Tensor]:
    """As `by_score`, with the units of all tensors competing in one ranking.

    Ties go to the earlier tensor first. `sparsity` is the share of the weights in the units that go.
    """
    if not values:
        return []
    if scores is None and granularity == "element":
        return by_sparsity_over(values, sparsity)
    present = [v.detach() != 0 for v in values]
    rated = [v.detach().abs() for v in values] if scores is None else scores
    if granularity == "element":
        ranked = torch.cat([torch.where(p, s, GONE).flatten() for p, s in zip(present, rated, strict=True)])
        kept = _largest(ranked, round(sparsity * len(ranked)), GONE)
        parts = torch.split(kept, [v.numel() for v in values])
        return [part.view(v.shape) for part, v in zip(parts, values, strict=True)]
    members = [units(v.shape, granularity, block) for v in values]
    each = [_rate(*one, norm) for one in zip(members, present, rated, strict=True)]
    ranked, sizes = torch.cat([rate for rate, _ in each]), torch.cat([size for _, size in each])
    kept = _largest(ranked, _how_many(ranked, sizes, sparsity), GONE)
    parts = torch.split(kept, [len(rate) for rate, _ in each])
    return [stays[unit] & p for stays, unit, p in zip(parts, members, present, strict=True)]


def _rate(unit: Tensor, present: Tensor, scores: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """(score per weight, number of weights) of each unit: (units,) float64 and int64."""
    if norm not in NORMS:
        raise SlimscopeError(f"norm is {norm!r}: allowed is one of {', '.join(NORMS)}")
    flat, order = unit.flatten(), NORMS[norm]
    sizes = torch.bincount(flat)
    alive = torch.bincount(flat[present.flatten()], minlength=len(sizes)) > 0
    total = torch.bincount(flat, weights=scores.double().flatten() ** order)
    return torch.where(alive, (total / sizes) ** (1 / order), GONE), sizes


def _how_many(ranked: Tensor, sizes: Tensor, sparsity: float) -> int:
    """How many units go, the smallest first, for their weights to come nearest to the share of all."""
    if bool((sizes == sizes[0]).all()):
        return round(sparsity * len(sizes))
    gone = sizes[ranked.argsort(stable=True)].cumsum(0)
    target = sparsity * int(gone[-1])
    above = int((gone < target).sum())  # units that stay below the target together
    beyond = float(gone[above]) - target if above < len(gone) else math.inf
    short = target - (float(gone[above - 1]) if above else 0.0)
    return above + (beyond < short)


def by_pattern(values: Tensor, scores: Tensor | None, n: int, m: int) -> Tensor:
    """Keep the N of highest score among each M weights in a row along the inputs, axis 1 (N:M sparsity).

    `scores` is as in `by_score`. In a convolution the M are neighbouring input channels at one place of the
    kernel, as sparse tensor cores want them (2:4: Mishra 2021, arXiv 2104.08378). Of equals the first
    go. Raises SlimscopeError where the inputs are no multiple of M, or N is not within 1..M.

    >>> by_pattern(torch.tensor([[4.0, -1.0, 2.0, 3.0]]), None, 2, 4).tolist()
    [[True, False, False, True]]
    """
    if not 1 <= n <= m:
        raise SlimscopeError(f"n is {n}: allowed is 1 to m, which is {m}")
    if values.shape[1] % m:
        raise SlimscopeError(f"a row of {values.shape[1]} inputs can't be cut into groups of {m}")
    present, rated = values.detach() != 0, values.detach().abs() if scores is None else scores
    rows = torch.where(present, rated, GONE).movedim(1, -1)
    order = rows.reshape(-1, m).argsort(dim=1, stable=True)
    kept = torch.ones(order.shape, dtype=torch.bool).scatter_(1, order[:, : m - n], False)
    return kept.view(rows.shape).movedim(-1, 1).contiguous() & present


# ---------------------------------------------------------------- how much of which layer


def by_allocation(
    values: Sequence[Tensor],
    scores: Sequence[Tensor] | None,
    sparsity: float,
    allocation: str,
    granularity: str = "element",
    *,
    block: int = 4,
    norm: str = "l1",
) -> list[Tensor]:
    """One mask per layer: the same share of each (`layer`), one ranking over all (`global`), or `erk`.

    Raises SlimscopeError for another allocation, and as `units` does.
    """
    if allocation not in ALLOCATIONS:
        raise SlimscopeError(f"allocation is {allocation!r}: allowed is one of {', '.join(ALLOCATIONS)}")
    if allocation == "global":
        return by_score_over(values, scores, sparsity, granularity, block=block, norm=norm)
    shares = erk([v.shape for v in values], sparsity) if allocation == "erk" else [sparsity] * len(values)
    rated = [None] * len(values) if scores is None else scores
    return [
        by_score(v, s, share, granularity, block=block, norm=norm)
        for v, s, share in zip(values, rated, shares, strict=True)
    ]


def erk(sizes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
    """The share that each layer loses under Erdos-Renyi-Kernel, for `round(sparsity * n)` weights in all.

    A layer keeps a share in proportion to the sum of its sides over their product (outputs, inputs,
    height, width), so that small layers lose less. Layers that would keep more than all keep all,
    and the others lose the more; fractions of weights go to the largest remainders, which makes
    the total exact. (Evci 2020, arXiv 1911.11134)

    >>> erk([(10, 10), (10, 40)], 0.5)
    [0.29, 0.5525]
    """
    weights, sides = [math.prod(size) for size in sizes], [sum(size) for size in sizes]
    kept = sum(weights) - round(sparsity * sum(weights))
    whole: set[int] = set()
    exact = [float(n) for n in weights]
    while len(whole) < len(sizes):
        rest = [i for i in range(len(sizes)) if i not in whole]
        scale = (kept - sum(weights[i] for i in whole)) / sum(sides[i] for i in rest)
        exact = [weights[i] if i in whole else scale * sides[i] for i in range(len(sizes))]
        full = {i for i in rest if exact[i] > weights[i]}
        if not full:
            break
        whole |= full
    counts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: kept - sum(counts)]:
        counts[i] += 1
    return [(n - count) / n for n, count in zip(weights, counts, strict=True)]


# ---------------------------------------------------------------- thresholds


def by_threshold(values: Tensor, threshold: float) -> Tensor:
    """Keep weights with |w| > threshold: a weight that equals the threshold is removed.

    >>> by_threshold(torch.tensor([0.5, -0.25, 0.1]), 0.25).tolist()
    [True, False, False]
    """
    return values.detach().abs() > threshold


def quality_threshold(values: Tensor, quality: float) -> float:
    """Han's threshold: quality times the standard deviation of all the layer's weights (Han 2015).

    The deviation is the population's, over every weight, zeros of earlier pruning included.
    For Gaussian weights with mean zero the share removed is erf(quality / sqrt(2)).

    >>> quality_threshold(torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.5)
    0.5
    """
    return quality * float(values.detach().double().std(correction=0))


def by_quality(values: Tensor, quality: float) -> Tensor:
    """Keep weights above Han's threshold for this layer."""
    return by_threshold(values, quality_threshold(values, quality))


def energy_kept(values: Tensor, kept: Tensor) -> float:
    """Share of the sum of squares that the kept weights hold, 0..1; 1 where all weights are zero."""
    total = sum_of_squares(values)
    return sum_of_squares(values * kept) / total if total > 0 else 1.0


def counted(kept: Tensor) -> dict[str, Any]:
    """What a mask leaves of a layer: weights, kept, removed, sparsity."""
    weights, survivors = kept.numel(), int(kept.count_nonzero())
    removed = weights - survivors
    return {"weights": weights, "kept": survivors, "removed": removed, "sparsity": removed / weights}


def summary(values: Tensor, kept: Tensor) -> dict[str, Any]:
    """What a mask does to a layer: weights, kept, removed, sparsity, threshold, energy_kept.

    `threshold` is the largest magnitude that was removed: 0 where only zeros were.
    """
    return {
        **counted(kept),
        "threshold": max(abs(float(end)) for end in values.masked_fill(kept, 0.0).aminmax()),
        "energy_kept": energy_kept(values, kept),
    }


def remove(param: Param, kept: Tensor) -> Param:
    """The parameter with exact zeros where `kept` (its shape) is False, in its own form.

    A grid keeps its scales and gets the code that means zero; a codebook gets an entry 0
    where it has none. Where all is kept, the same object comes back.
    """
    if bool(kept.all()):
        return param
    return param.masked(kept)
