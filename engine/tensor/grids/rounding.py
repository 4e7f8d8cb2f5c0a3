"""Rounding to a grid: scale and zero point of each tile, and the codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.tensor import calibrate
from engine.tensor.affine import code_range, stored_affine
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import TENSOR, Granularity
from engine.tensor.stochastic import uniform
from engine.types import SlimscopeError


def quantize(
    values: Tensor,
    bits: int,
    symmetric: bool = True,
    granularity: Granularity = TENSOR,
    range: str = "minmax",
    percentile: float = 99.9,
    seed: int | None = None,
) -> AffineGrid:
    """Round `values` (any shape, float32) to a grid of `bits` bits (Jacob 2018; Krishnamoorthi 2018).

    Each tile of the granularity has a scale of its own, over the range that a method of
    `engine.tensor.calibrate` finds. One symmetric bit is sign(w) times the mean magnitude of the non-zero
    weights, which is the scale of least squared error (Rastegari 2016); it has no range to choose. With a
    `seed`, rounding is stochastic: up with the probability of what is above a level, so that the mean over
    seeds is the value itself where nothing is clipped (Gupta 2015, arXiv 1502.02551).
    Raises SlimscopeError for an unknown range, or a granularity that does not fit the shape.

    >>> quantize(torch.tensor([-1.0, 0.0, 0.5]), 2).codes.tolist()
    [-1, 0, 0]
    """
    if range not in calibrate.METHODS:
        raise SlimscopeError(f"range is {range!r}: allowed is one of {', '.join(calibrate.METHODS)}")
    values = values.detach()
    granularity.check("a tensor", values.shape)
    scale = torch.ones(math.prod(granularity.tiles(values.shape)))
    zero = torch.zeros(len(scale), dtype=torch.int32)
    for numbers, tiles in granularity.cut(values):
        scale[numbers], zero[numbers] = affine_of(tiles, bits, symmetric, range, percentile)
    codes = codes_of(granularity, values, scale, zero, bits, symmetric, seed)
    return AffineGrid(codes, scale, zero, bits, granularity)


def on_range(values: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool) -> AffineGrid:
    """`values` on the grid of one scale that spans `low` to `high`, each of one number."""
    scale, zero = (each.reshape(1) for each in stored_affine(low, high, bits, symmetric))
    return AffineGrid(codes_of(TENSOR, values, scale, zero, bits, symmetric), scale, zero, bits, TENSOR)


def codes_of(
    granularity: Granularity,
    values: Tensor,
    scale: Tensor,
    zero: Tensor,
    bits: int,
    symmetric: bool,
    seed: int | None = None,
) -> Tensor:
    """Codes int32, in the shape of the values."""
    if symmetric and bits == 1:
        return torch.sign(values).to(torch.int32)
    bottom, top = code_range(bits, symmetric)
    if seed is None:
        free = free_codes(granularity, values, scale, zero)
    else:
        step, shift = (granularity.spread(each, values.shape) for each in (scale, zero))
        chance = granularity.matrix(uniform(values, seed))  # float64, or large codes would have none
        free = (granularity.matrix(values) / step).double().add_(chance).floor_().add_(shift)
    return granularity.back(free.clamp_(bottom, top).to(torch.int32), values.shape)


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
    return stored_affine(*calibrate.span(block, bits, symmetric, range, percentile), bits, symmetric)


def _sign_scale(block: Tensor) -> Tensor:
    count = (block != 0).sum(1)
    mean = block.double().abs().sum(1) / count.clamp(min=1)
    return torch.where(mean > 0, mean, 1.0).to(torch.float32)
