"""Rounding to a grid: scale and zero point of each tile, and the codes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from engine.tensor.affine import code_range, stored_affine
from engine.tensor.formats import Grid
from engine.tensor.granularity import TENSOR, Granularity
from engine.tensor.grids.clip import best_fraction
from engine.types import SlimscopeError

RANGES = ("minmax", "percentile", "mse")


def quantize(
    values: Tensor,
    bits: int,
    symmetric: bool = True,
    granularity: Granularity = TENSOR,
    range: str = "minmax",
    percentile: float = 99.9,
) -> Grid:
    """Round `values` (any shape, float32) to a grid of `bits` bits (Jacob 2018; Krishnamoorthi 2018).

    Each tile of the granularity has a scale of its own. `range`: `minmax` keeps the
    extremes, `percentile` keeps that share of the non-zero weights in range (asymmetric: an equal
    share is cut at either end), `mse` takes the clip of least squared error out of 1 %, 2 %, ...
    100 % of the extremes. One symmetric bit is sign(w) times the mean magnitude of the non-zero
    weights, which is the scale of least squared error (Rastegari 2016); it has no range to choose.
    Raises SlimscopeError for an unknown range, or a granularity that does not fit the shape.

    >>> quantize(torch.tensor([-1.0, 0.0, 0.5]), 2).codes.tolist()
    [-1, 0, 0]
    """
    if range not in RANGES:
        raise SlimscopeError(f"range is {range!r}: allowed is one of {', '.join(RANGES)}")
    values = values.detach()
    granularity.check("a tensor", values.shape)
    scale = torch.ones(math.prod(granularity.tiles(values.shape)))
    zero = torch.zeros(len(scale), dtype=torch.int32)
    for numbers, tiles in granularity.cut(values):
        scale[numbers], zero[numbers] = affine_of(tiles, bits, symmetric, range, percentile)
    codes = codes_of(granularity, values, scale, zero, bits, symmetric)
    return Grid(codes, scale, zero, bits, granularity)


def codes_of(
    granularity: Granularity, values: Tensor, scale: Tensor, zero: Tensor, bits: int, symmetric: bool
) -> Tensor:
    """Codes int32, in the shape of the values."""
    if symmetric and bits == 1:
        return torch.sign(values).to(torch.int32)
    bottom, top = code_range(bits, symmetric)
    free = free_codes(granularity, values, scale, zero).clamp_(bottom, top).to(torch.int32)
    return granularity.back(free, values.shape)


def free_codes(granularity: Granularity, values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Codes before they are clipped, as floats: (rows, columns)."""
    step, shift = (granularity.spread(each, values.shape) for each in (scale, zero))
    return (granularity.matrix(values) / step).round_().add_(shift)


def affine_of(
    block: Tensor, bits: int, symmetric: bool, range: str, percentile: float
) -> tuple[Tensor, Tensor]:
    """(scale float32, zero int32), one for each row of `block`."""
    if symmetric and bits == 1:
        return _sign_scale(block), torch.zeros(len(block), dtype=torch.int32)
    low, high = reach(block, symmetric, range, percentile)
    if range == "mse":
        best = best_fraction(block, low, high, bits, symmetric)
        low, high = low * best, high * best
    return stored_affine(low, high, bits, symmetric)


def reach(block: Tensor, symmetric: bool, range: str, percentile: float) -> tuple[Tensor, Tensor]:
    """(low, high) of each row: float64; at `mse` they are what the search starts from."""
    if range == "percentile":
        return _percentile_range(block, percentile, symmetric)
    return block.amin(1).double(), block.amax(1).double()


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
