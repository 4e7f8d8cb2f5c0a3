"""The clip of least squared error, out of 1 %, 2 %, ... 100 % of a range, and what rounding costs there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.affine import code_range, stored_affine

FRACTIONS = 100  # clips that are tried

Floats = NDArray[np.float64]


def best_fraction(block: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool) -> Tensor:
    """For each row, the fraction of its range with the least squared error; the larger one on a tie."""
    fractions = torch.arange(FRACTIONS, 0, -1, dtype=torch.float64) / FRACTIONS
    # Sorted rows answer in O(levels log n), whole rows in O(n); a search costs about 32 roundings.
    search = _sorted_errors if 32 * 2**bits < block.shape[1] else _direct_errors
    return fractions[search(block, low, high, bits, symmetric, fractions).argmin(1)]


def _direct_errors(
    block: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool, fractions: Tensor
) -> Tensor:
    """Sum of squared errors: (rows, fractions)."""
    errors, buffer = [], torch.empty_like(block)
    for fraction in fractions:
        scale, zero = stored_affine(low * fraction, high * fraction, bits, symmetric)
        lost = rounding(block, scale, zero, bits, symmetric, buffer)
        errors.append(lost.square_().sum(1, dtype=torch.float64))
    return torch.stack(errors, 1)


def rounding(
    block: Tensor, scale: Tensor, zero: Tensor, bits: int, symmetric: bool, buffer: Tensor
) -> Tensor:
    """What rounding adds to each weight of rows with a scale each: (rows, columns), in `buffer`."""
    step, shift = scale.unsqueeze(1), zero.unsqueeze(1)
    if symmetric and bits == 1:
        return torch.sign(block, out=buffer).mul_(step).sub_(block)
    bottom, top = code_range(bits, symmetric)
    torch.div(block, step, out=buffer)
    buffer.round_().add_(shift).clamp_(bottom, top)
    return buffer.sub_(shift).mul_(step).sub_(block)


def _sorted_errors(
    block: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool, fractions: Tensor
) -> Tensor:
    """The same numbers from sorted rows and prefix sums: (rows, fractions)."""
    scale, zero = stored_affine(low[:, None] * fractions, high[:, None] * fractions, bits, symmetric)
    bottom, top = code_range(bits, symmetric)
    codes = np.arange(bottom, top + 1)
    errors = []
    for i, row in enumerate(np.sort(block.numpy(), axis=1)):
        # (fractions, levels)
        levels = (codes - zero[i].numpy()[:, None]) * scale[i].double().numpy()[:, None]
        cuts = ((levels[:, 1:] + levels[:, :-1]) / 2).astype(np.float32)
        wide = row.astype(np.float64)
        errors.append(ordered_error(row, prefix_sums(row), float(wide @ wide), cuts, levels)[0])
    return torch.from_numpy(np.stack(errors))


def prefix_sums(ordered: NDArray[np.float32]) -> Floats:
    """Sums of the first 0, 1, ... n values in float64: (n + 1,)."""
    return np.concatenate(([0.0], np.cumsum(ordered, dtype=np.float64)))


def ordered_error(
    ordered: NDArray[np.float32],
    sums: Floats,
    squares: float,
    cuts: NDArray[np.float32],
    levels: Floats,
) -> tuple[Any, NDArray[np.int64]]:
    """Squared error and counts when sorted values go to `levels`, in O(levels log n).

    A value below `cuts[..., 0]` goes to level 0, one from `cuts[..., k]` on to level k + 1 or higher.
    `cuts` (..., k) float32 must have the type of `ordered` or searchsorted would convert all of it;
    `levels` (..., k + 1); `sums` are the prefix sums of the values, `squares` the sum of their squares.
    Returns (sum of squared errors (...), counts (..., k + 1)): a level l of n values that add up to S
    has n l^2 - 2 l S, and the sum of squares joins once.
    """
    places = np.searchsorted(ordered, cuts)
    edge = np.zeros((*cuts.shape[:-1], 1), dtype=np.int64)
    places = np.concatenate((edge, places, edge + len(ordered)), axis=-1)
    counts = np.diff(places)
    totals = np.diff(sums[places])
    error = squares - 2 * (levels * totals).sum(-1) + (levels**2 * counts).sum(-1)
    return np.maximum(error, 0.0), counts
