"""Masks by any score, over single weights, N of M in a row, or units: blocks, kernels, filters, channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from engine.tensor.masks.magnitude import by_sparsity_over, largest
from engine.types import SlimscopeError

UNITS = ("element", "block", "kernel", "filter", "channel")
NORMS = {"l1": 1, "l2": 2}
GONE = -math.inf  # the score of what is zero already: below every other


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
        kept = largest(ranked, round(sparsity * len(ranked)), GONE)
        parts = torch.split(kept, [v.numel() for v in values])
        return [part.view(v.shape) for part, v in zip(parts, values, strict=True)]
    members = [units(v.shape, granularity, block) for v in values]
    each = [_rate(*one, norm) for one in zip(members, present, rated, strict=True)]
    ranked, sizes = torch.cat([rate for rate, _ in each]), torch.cat([size for _, size in each])
    kept = largest(ranked, _how_many(ranked, sizes, sparsity), GONE)
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


def by_row(values: Tensor, scores: Tensor | None, sparsity: float) -> Tensor:
    """Keep all but the `round(sparsity * n)` weights of smallest score among the n of each output (row).

    `scores` is as in `by_score`. Of equals the first go; zeros go even beyond that count.

    >>> by_row(torch.tensor([[4.0, -1.0], [0.5, 0.25]]), None, 0.5).tolist()
    [[True, False], [True, False]]
    """
    present, rated = values.detach() != 0, values.detach().abs() if scores is None else scores
    rows = torch.where(present, rated, GONE).flatten(1)
    order = rows.argsort(dim=1, stable=True)
    removed = round(sparsity * rows.shape[1])
    kept = torch.ones(rows.shape, dtype=torch.bool).scatter_(1, order[:, :removed], False)
    return kept.view(values.shape) & present
