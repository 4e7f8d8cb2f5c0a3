"""Magnitude masks: which weights stay. True is kept, False is removed (set to exactly zero).

Weights that are zero already count as removed. Nothing here knows of nets or of training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.grids import sum_of_squares
from engine.types import Book, Dense, Grid, Param, spread_over


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


def _largest(magnitude: Tensor, removed: int) -> Tensor:
    """Mask over flat magnitudes without the `removed` smallest; partition is O(n), sorting is not."""
    if removed == 0:
        return magnitude > 0
    cut = float(np.partition(magnitude.numpy(), removed - 1)[removed - 1])
    kept = magnitude > cut
    surplus = int((~kept).sum()) - removed  # ties at the cut that may stay
    if surplus > 0 and cut > 0:
        ties = (magnitude == cut).nonzero().flatten()
        kept[ties[len(ties) - surplus :]] = True
    return kept


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


def remove(param: Param, kept: Tensor) -> Param:
    """The parameter with exact zeros where `kept` (its shape) is False, in its own form.

    A grid keeps its scales and gets the code that means zero; a codebook gets an entry 0
    where it has none. Where all is kept, the same object comes back.
    """
    if bool(kept.all()):
        return param
    match param:
        case Grid():
            zero = _zero_codes(param)
            return Grid(
                torch.where(kept, param.codes, zero),
                param.scale,
                param.zero,
                param.bits,
                param.axis,
                param.group,
            )
        case Book():
            table, code = _with_zero(param.table)
            return Book(torch.where(kept, param.codes, code), table)
    return Dense(torch.where(kept, param.values, 0.0))


def _zero_codes(grid: Grid) -> Tensor:
    """The code that decodes to zero at each place: (codes.shape)."""
    axis = grid.axis or 0
    lead = grid.codes.movedim(axis, 0)
    columns = lead.numel() // grid.rows
    spread = spread_over(grid.zero, grid.rows, columns, grid.group).to(grid.codes.dtype)
    return spread.expand(grid.rows, columns).reshape(lead.shape).movedim(0, axis)


def _with_zero(table: Tensor) -> tuple[Tensor, int]:
    """A table that holds zero, and where."""
    at = (table == 0).nonzero().flatten()
    if len(at):
        return table, int(at[0])
    return torch.cat([table, table.new_zeros(1)]), len(table)
