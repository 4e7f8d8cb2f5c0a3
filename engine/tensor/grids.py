"""Uniform grids: rounding weights to `scale * (code - zero)`, and what that costs.

Tensors in, tensors out. A weight that is exactly zero decodes to exactly zero in every scheme, so
that masks survive. Rounding is half to even, as in torch and IEEE 754. Which layers of which net
are rounded is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.affine import affine_from_range, code_range
from engine.tensor.formats import Grid
from engine.tensor.formats.affine import spread_over
from engine.types import SlimscopeError

GRANULARITIES = ("tensor", "channel", "group")
RANGES = ("minmax", "percentile", "mse")
FRACTIONS = 100  # clips that the MSE search tries: 1 %, 2 %, ... 100 % of the full range

Floats = NDArray[np.float64]


def quantize(
    values: Tensor,
    bits: int,
    symmetric: bool = True,
    granularity: str = "tensor",
    group: int = 64,
    range: str = "minmax",
    percentile: float = 99.9,
) -> Grid:
    """Round `values` (any shape, float32) to a grid of `bits` bits (Jacob 2018; Krishnamoorthi 2018).

    `granularity`: one scale for the tensor, for each row of axis 0 (an output channel), or for each
    run of `group` consecutive weights of a row (the last may be shorter). `range`: `minmax` keeps the
    extremes, `percentile` keeps that share of the non-zero weights in range (asymmetric: an equal
    share is cut at either end), `mse` takes the clip of least squared error out of 1 %, 2 %, ...
    100 % of the extremes. One symmetric bit is sign(w) times the mean magnitude of the non-zero
    weights, which is the scale of least squared error (Rastegari 2016); it has no range to choose.
    Raises SlimscopeError for an unknown granularity or range.

    >>> quantize(torch.tensor([-1.0, 0.0, 0.5]), 2).codes.tolist()
    [-1, 0, 0]
    """
    _known("granularity", granularity, GRANULARITIES)
    _known("range", range, RANGES)
    matrix = _rows(values.detach(), granularity)
    size = group if granularity == "group" else None
    scales, zeros = zip(
        *(_affine(block, bits, symmetric, range, percentile) for block in _blocks(matrix, size)), strict=True
    )
    # (rows, whole groups) and (rows, 1) for a short last group -> flat, row by row
    scale = torch.cat([s.view(len(matrix), -1) for s in scales], 1).flatten()
    zero = torch.cat([z.view(len(matrix), -1) for z in zeros], 1).flatten()
    codes = _codes(matrix, scale, zero, size, bits, symmetric).reshape(values.shape)
    axis = None if granularity == "tensor" else 0
    return Grid(codes, scale, zero, bits, axis, size)


def _known(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SlimscopeError(f"{name} is {value!r}: allowed is one of {', '.join(allowed)}")


def _rows(values: Tensor, granularity: str) -> Tensor:
    """(rows that share nothing, columns)."""
    return values.reshape(1, -1) if granularity == "tensor" else values.reshape(len(values), -1)


def _blocks(matrix: Tensor, group: int | None) -> list[Tensor]:
    """Rows that each get one scale: whole groups first, then the short last groups, if any."""
    if group is None:
        return [matrix]
    whole = matrix.shape[1] // group * group
    parts = [matrix[:, :whole].reshape(-1, group), matrix[:, whole:]]
    return [part for part in parts if part.numel()]


def _affine(
    block: Tensor, bits: int, symmetric: bool, range: str, percentile: float
) -> tuple[Tensor, Tensor]:
    """(scale float32, zero int32), one for each row of `block`."""
    if symmetric and bits == 1:
        return _sign_scale(block), torch.zeros(len(block), dtype=torch.int32)
    low, high = _reach(block, symmetric, range, percentile)
    if range == "mse":
        best = _best_fraction(block, low, high, bits, symmetric)
        low, high = low * best, high * best
    return stored_affine(low, high, bits, symmetric)


def _reach(block: Tensor, symmetric: bool, range: str, percentile: float) -> tuple[Tensor, Tensor]:
    """(low, high) of each row: float64; at `mse` they are what the search starts from."""
    if range == "percentile":
        return _percentile_range(block, percentile, symmetric)
    return block.amin(1).double(), block.amax(1).double()


def stored_affine(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point as they are kept; float64 inside, or a wide float32 range overflows."""
    scale, zero = affine_from_range(low.double(), high.double(), bits, symmetric)
    # A range so narrow that its step is no float32 would divide by zero.
    scale = scale.to(torch.float32).clamp(min=torch.finfo(torch.float32).tiny)
    return scale, zero.to(torch.int32)


def _sign_scale(block: Tensor) -> Tensor:
    count = (block != 0).sum(1)
    mean = block.double().abs().sum(1) / count.clamp(min=1)
    return torch.where(mean > 0, mean, 1.0).to(torch.float32)


def _percentile_range(block: Tensor, percentile: float, symmetric: bool) -> tuple[Tensor, Tensor]:
    """(low, high) that hold `percentile` % of each row's non-zero weights."""
    share = percentile / 100
    nan = torch.tensor(float("nan"))
    if symmetric:
        high = _row_quantile(torch.where(block != 0, block.abs(), nan), share)
        return -high, high
    alive = torch.where(block != 0, block, nan)
    return _row_quantile(alive, (1 - share) / 2), _row_quantile(alive, (1 + share) / 2)


def _row_quantile(block: Tensor, share: float) -> Tensor:
    """Linear quantile of each row without its NaNs, float64; 0 for a row of NaNs.

    torch.quantile refuses more than 16 million elements, and NumPy's nanquantile loops over rows.
    """
    ordered = torch.from_numpy(np.sort(block.numpy(), axis=1))  # NaNs last
    last = (~ordered.isnan()).sum(1, keepdim=True) - 1
    place = last.clamp(min=0).double() * share  # in float32 a place among 100,000 is off by hundredths
    below = place.floor().long()
    above = torch.minimum(below + 1, last.clamp(min=0))
    left, right = ordered.gather(1, below).double(), ordered.gather(1, above).double()
    return torch.nan_to_num(left + (right - left) * (place - below), nan=0.0).flatten()


# ---------------------------------------------------------------- the clip of least squared error


def _best_fraction(block: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool) -> Tensor:
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
        lost = _rounding(block, scale, zero, bits, symmetric, buffer)
        errors.append(lost.square_().sum(1, dtype=torch.float64))
    return torch.stack(errors, 1)


def _rounding(
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


# ---------------------------------------------------------------- codes


def _codes(
    matrix: Tensor, scale: Tensor, zero: Tensor, group: int | None, bits: int, symmetric: bool
) -> Tensor:
    """Codes int32 (rows, columns)."""
    if symmetric and bits == 1:
        return torch.sign(matrix).to(torch.int32)
    bottom, top = code_range(bits, symmetric)
    return _free_codes(matrix, scale, zero, group).clamp_(bottom, top).to(torch.int32)


def _free_codes(matrix: Tensor, scale: Tensor, zero: Tensor, group: int | None) -> Tensor:
    """Codes before they are clipped, as floats."""
    rows, columns = matrix.shape
    step, shift = (spread_over(each, rows, columns, group) for each in (scale, zero))
    return (matrix / step).round_().add_(shift)


def _matrix(tensor: Tensor, grid: Grid) -> Tensor:
    """(rows of the grid, columns) of a tensor of the grid's shape."""
    lead: Tensor = tensor.movedim(grid.axis or 0, 0)
    return lead.reshape(grid.rows, -1)


# ---------------------------------------------------------------- what it costs


@dataclass(frozen=True)
class Error:
    """What rounding did to a tensor: counted on it, in its own unit; decibels for `sqnr_db`."""

    mse: float
    sqnr_db: float
    max_error: float
    clipped: float  # share of values outside of the grid, 0..1
    levels_used: int  # different codes that occur


def error(values: Tensor, grid: Grid, symmetric: bool) -> Error:
    """Compare `values` with their grid.

    Signal to noise is 10 log10(sum w^2 / sum (w - q)^2): infinite where nothing was lost.

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


def _clipped(values: Tensor, grid: Grid, symmetric: bool) -> int:
    """How many values would need a code beyond the grid's ends; of signs, a third level beyond."""
    if symmetric and grid.bits == 1:  # levels -s and s: the next one would begin at 2 s
        return int((_in_steps(values, grid).abs() > 2).count_nonzero())
    free = _free_codes(_matrix(values, grid), grid.scale, grid.zero, grid.group)
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
    granularity: str = "tensor",
    group: int = 64,
    range: str = "minmax",
    percentile: float = 99.9,
) -> pd.DataFrame:
    """What each bit width costs: one row with bits, mse, sqnr_db, as `error` after `quantize` says.

    The range is looked for once where it is the same for all widths, and no codes are made.
    """
    size = group if granularity == "group" else None
    blocks = _blocks(_rows(values.detach(), granularity), size)
    noise = np.zeros(len(bits))
    for block in blocks:
        ends = None if range == "mse" else _reach(block, symmetric, range, percentile)
        buffer = torch.empty_like(block)
        for i, width in enumerate(bits):
            if ends is None or (symmetric and width == 1):
                scale, zero = _affine(block, width, symmetric, range, percentile)
            else:
                scale, zero = stored_affine(*ends, width, symmetric)
            noise[i] += sum_of_squares(_rounding(block, scale, zero, width, symmetric, buffer))
    signal = sum_of_squares(values)
    decibel = [decibels(signal, lost) for lost in noise.tolist()]
    return pd.DataFrame({"bits": bits, "mse": noise / values.numel(), "sqnr_db": decibel})


def levels(grid: Grid, symmetric: bool, row: int = 0) -> pd.DataFrame:
    """The levels of one row (or group, counted row by row): code, value, and how many weights have it."""
    bottom, top = code_range(grid.bits, symmetric)
    scale, zero = grid.scale[row], grid.zero[row]
    codes = torch.arange(bottom, top + 1, dtype=torch.int32)
    held = _held(grid, row) - bottom
    return pd.DataFrame(
        {
            "code": codes.numpy(),
            "value": ((codes - zero).to(torch.float32) * scale).numpy(),
            "weights": torch.bincount(held, minlength=len(codes)).numpy(),
        }
    )


def _held(grid: Grid, row: int) -> Tensor:
    """The codes that share one scale, flat."""
    matrix = _matrix(grid.codes, grid)
    if grid.group is None:
        return matrix[row]
    line, run = divmod(row, math.ceil(matrix.shape[1] / grid.group))
    return matrix[line, run * grid.group : (run + 1) * grid.group]


def staircase(grid: Grid, symmetric: bool, row: int = 0) -> pd.DataFrame:
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
    values: Tensor, grid: Grid, size: int = 5, at: tuple[int, int] = (0, 0)
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


def errors_in_steps(values: Tensor, grid: Grid, symmetric: bool) -> Tensor:
    """Rounding errors (value minus reconstruction) in units of each weight's own step, flat.

    A step is the distance of two levels: the scale, and for one symmetric bit twice the scale. Exact
    zeros are left out: they are the mask, and cost nothing. Within the range the errors lie in
    -0.5..0.5; what is clipped lies beyond.

    >>> w = torch.tensor([0.0, 0.25, 1.0])
    >>> errors_in_steps(w, quantize(w, 2), True).tolist()
    [0.25, 0.0]
    """
    values = values.detach()
    lost = _in_steps(values - grid.decode(), grid) / (2 if symmetric and grid.bits == 1 else 1)
    return lost[_matrix(values, grid) != 0].flatten()


def _in_steps(values: Tensor, grid: Grid) -> Tensor:
    """Values over the scale of their place: (rows of the grid, columns)."""
    matrix = _matrix(values, grid)
    return matrix / spread_over(grid.scale, grid.rows, matrix.shape[1], grid.group)
