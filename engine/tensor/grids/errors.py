"""What rounding to a grid costs: squared error, decibels, clipping, and errors in units of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from engine.tensor import calibrate
from engine.tensor.affine import code_range, stored_affine
from engine.tensor.calibrate.least_error import rounding
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import TENSOR, Granularity
from engine.tensor.grids.rounding import affine_of, free_codes, quantize


@dataclass(frozen=True)
class Error:
    """What rounding did to a tensor: counted on it, in its own unit; decibels for `sqnr_db`."""

    mse: float
    sqnr_db: float
    max_error: float
    clipped: float  # share of values outside of the grid, 0..1
    levels_used: int  # different codes that occur


def error(values: Tensor, grid: AffineGrid, symmetric: bool) -> Error:
    """Compare `values` with their grid.

    Signal to noise is 10 log10(sum w^2 / sum (w - q)^2): infinite where nothing was lost.

    >>> from engine.tensor.grids import quantize
    >>> w = torch.tensor([-1.0, 0.25, 1.0])
    >>> round(error(w, quantize(w, 2), True).mse, 6)
    0.020833
    """
    original = values.detach()
    difference = grid.decode().sub_(original)
    noise = sum_of_squares(difference)
    codes = grid.codes.flatten()
    return Error(
        mse=noise / len(codes),
        sqnr_db=decibels(sum_of_squares(original), noise),
        max_error=max(abs(float(end)) for end in difference.aminmax()),
        clipped=_clipped(original, grid, symmetric) / len(codes),
        levels_used=int(torch.bincount(codes - codes.min()).count_nonzero()),
    )


def _clipped(values: Tensor, grid: AffineGrid, symmetric: bool) -> int:
    """How many values would need a code beyond the grid's ends; of signs, a third level beyond."""
    if symmetric and grid.bits == 1:  # levels -s and s: the next one would begin at 2 s
        return int((in_steps(values, grid).abs() > 2).count_nonzero())
    free = free_codes(grid.granularity, values, grid.scale, grid.zero)
    bottom, top = code_range(grid.bits, symmetric)
    low, high = free.aminmax()
    if low >= bottom and high <= top:
        return 0
    return int(((free < bottom) | (free > top)).count_nonzero())


def sum_of_squares(values: Tensor) -> float:
    """In float64, whatever the type of the values."""
    wide = values.detach().flatten().double()
    return float(wide @ wide)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite without noise.

    >>> decibels(100.0, 1.0)
    20.0
    """
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def error_curve(
    values: Tensor,
    bits: tuple[int, ...] = tuple(range(1, 17)),
    symmetric: bool = True,
    granularity: Granularity = TENSOR,
    range: str = "minmax",
    percentile: float = 99.9,
    seed: int | None = None,
) -> pd.DataFrame:
    """What each bit width costs: one row with bits, mse, sqnr_db, as `error` after `quantize` says.

    The range is looked for once where it is the same for all widths, and no codes are made unless chance
    rounds.
    """
    noise = np.zeros(len(bits))
    if seed is not None:
        chosen = (symmetric, granularity, range, percentile, seed)
        noise += [sum_of_squares(quantize(values, width, *chosen).decode() - values) for width in bits]
    for _, block in granularity.cut(values.detach()) if seed is None else ():
        ends = None if range in calibrate.BY_BITS else calibrate.span(block, 0, symmetric, range, percentile)
        buffer = torch.empty_like(block)
        for i, width in enumerate(bits):
            if ends is None or (symmetric and width == 1):
                scale, zero = affine_of(block, width, symmetric, range, percentile)
            else:
                scale, zero = stored_affine(*ends, width, symmetric)
            noise[i] += sum_of_squares(rounding(block, scale, zero, width, symmetric, buffer))
    signal = sum_of_squares(values)
    decibel = [decibels(signal, lost) for lost in noise.tolist()]
    return pd.DataFrame({"bits": bits, "mse": noise / values.numel(), "sqnr_db": decibel})


def errors_in_steps(values: Tensor, grid: AffineGrid, symmetric: bool) -> Tensor:
    """Rounding errors (value minus reconstruction) in units of each weight's own step, flat.

    A step is the distance of two levels: the scale, and for one symmetric bit twice the scale. Exact
    zeros are left out: they are the mask, and cost nothing. Within the range the errors lie in
    -0.5..0.5; what is clipped lies beyond.

    >>> from engine.tensor.grids import quantize
    >>> w = torch.tensor([0.0, 0.25, 1.0])
    >>> errors_in_steps(w, quantize(w, 2), True).tolist()
    [0.25, 0.0]
    """
    values = values.detach()
    lost = in_steps(values - grid.decode(), grid) / (2 if symmetric and grid.bits == 1 else 1)
    return lost[grid.granularity.matrix(values) != 0].flatten()


def in_steps(values: Tensor, grid: AffineGrid) -> Tensor:
    """Values over the scale of their place: (rows of the grid, columns)."""
    return grid.granularity.matrix(values) / grid.granularity.spread(grid.scale, values.shape)
