"""A grid as it is shown: its levels, its staircase, a corner of numbers, and the lecture's example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from engine.tensor.affine import affine_from_range, code_range
from engine.tensor.formats import AffineGrid
from engine.types import SlimscopeError


def levels(grid: AffineGrid, symmetric: bool, row: int = 0) -> pd.DataFrame:
    """The levels of one row (or group, counted row by row): code, value, and how many weights have it."""
    bottom, top = code_range(grid.bits, symmetric)
    scale, zero = grid.scale[row], grid.zero[row]
    codes = torch.arange(bottom, top + 1, dtype=torch.int32)
    held = grid.granularity.members(grid.codes, row) - bottom
    return pd.DataFrame(
        {
            "code": codes.numpy(),
            "value": ((codes - zero).to(torch.float32) * scale).numpy(),
            "weights": torch.bincount(held, minlength=len(codes)).numpy(),
        }
    )


def staircase(grid: AffineGrid, symmetric: bool, row: int = 0) -> pd.DataFrame:
    """Corners of the transfer curve of one row: input, output, code, from left to right.

    Every level is a flat tread between the inputs where rounding changes to the next; the
    outermost two reach one step beyond, where inputs are clipped. One symmetric bit changes at zero.
    """
    table = levels(grid, symmetric, row)
    if symmetric and grid.bits == 1:
        table = table[table["code"] != 0]
    value = table["value"].to_numpy(np.float64)
    step = float(grid.scale[row])
    middle = (value[1:] + value[:-1]) / 2
    left = np.concatenate(([value[0] - 1.5 * step], middle))
    right = np.concatenate((middle, [value[-1] + 1.5 * step]))
    return pd.DataFrame(
        {
            "input": np.stack((left, right), 1).ravel(),
            "output": value.repeat(2),
            "code": table["code"].to_numpy().repeat(2),
        }
    )


def busiest(values: Tensor, size: int = 5) -> tuple[int, int]:
    """Where to look: (row, column) of a `size` x `size` window of the matrix around its largest weight."""
    matrix = values.detach().reshape(len(values), -1)
    row, column = divmod(int(matrix.abs().argmax()), matrix.shape[1])
    place = [
        max(0, min(at - size // 2, side - size)) for at, side in zip((row, column), matrix.shape, strict=True)
    ]
    return place[0], place[1]


def corner(
    values: Tensor, grid: AffineGrid, size: int = 5, at: tuple[int, int] = (0, 0)
) -> tuple[Tensor, Tensor, Tensor]:
    """`size` x `size` numbers of the tensor as a matrix, from `at`: (original, codes, reconstruction)."""

    def cut(tensor: Tensor) -> Tensor:
        two_d: Tensor = tensor.reshape(len(tensor), -1)
        return two_d[at[0] : at[0] + size, at[1] : at[1] + size]

    return cut(values.detach()), cut(grid.codes), cut(grid.decode())


@dataclass(frozen=True)
class AffineExample:
    """One value on one asymmetric grid, with the exact scale and with the scale as it is printed."""

    scale: float
    zero: int
    code: int
    rounded_scale: float
    rounded_code: int


def affine_example(low: float, high: float, bits: int, value: float, decimals: int = 3) -> AffineExample:
    """The code of `value` on the unsigned grid over [low, high], by the exact and by a rounded scale.

    Rounding the scale to `decimals` before dividing, as one does on a blackboard, moves values that
    lie near a boundary to the next code. Both use the zero point of the exact scale.
    Raises SlimscopeError where the scale rounds to zero.

    >>> example = affine_example(-4.75, 4.67, 8, -3.57)
    >>> example.zero, example.code, example.rounded_scale, example.rounded_code
    (129, 32, 0.037, 33)
    """
    step, shift = affine_from_range(
        torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64), bits, symmetric=False
    )
    scale, zero = float(step), int(shift)
    rounded = round(scale, decimals)
    if rounded == 0:
        raise SlimscopeError(f"scale {scale:.4g} rounds to 0 at {decimals} decimals: give more decimals")
    bottom, top = code_range(bits, symmetric=False)
    codes = [min(max(round(value / s + zero), bottom), top) for s in (scale, rounded)]
    return AffineExample(scale, zero, codes[0], rounded, codes[1])
