"""Where the learning of step sizes begins: the grids of LSQ, with the step that a mean magnitude suggests."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import TENSOR, Granularity
from engine.tensor.grids.rounding import codes_of


def middle(bits: int, signed: bool) -> int:
    """The code of zero: half of the levels lie below it, or none where nothing is negative.

    >>> middle(2, True), middle(2, False)
    (2, 0)
    """
    return 2 ** (bits - 1) if signed else 0


def first_step(mean: Tensor, bits: int, signed: bool) -> Tensor:
    """2 <|v|> / sqrt(Q): the step size that LSQ begins with (Esser 2020, arXiv 1902.08153, section 2.1).

    `mean` is the mean magnitude; Q is the largest number of steps above zero. A mean of zero gives 1.

    >>> first_step(torch.tensor([0.5, 0.0]), 3, signed=True)
    tensor([0.5774, 1.0000])
    """
    top = code_range(bits, False)[1] - middle(bits, signed)
    step = (2 * mean.double() / math.sqrt(top)).to(torch.float32)
    return torch.where(step > torch.finfo(torch.float32).tiny, step, 1.0)


def learned(values: Tensor, bits: int, granularity: Granularity = TENSOR, zeros: bool = True) -> AffineGrid:
    """Weights on the grid that LSQ begins with: -2^(b-1) .. 2^(b-1) - 1 steps, from 2 bits on.

    Each tile of the granularity has a step of its own, by `first_step`; without `zeros`, exact zeros do not
    count in the mean magnitude.

    >>> learned(torch.tensor([-3.0, -1.0, 0.0, 1.0]), 2).decode().tolist()
    [-2.5, 0.0, 0.0, 0.0]
    """
    values = values.detach()
    granularity.check("a tensor", values.shape)
    step = torch.ones(math.prod(granularity.tiles(values.shape)))
    for numbers, tiles in granularity.cut(values):
        count = tiles.shape[1] if zeros else tiles.count_nonzero(1).clamp(min=1)
        step[numbers] = first_step(tiles.abs().double().sum(1) / count, bits, signed=True)
    zero = torch.full((len(step),), middle(bits, True), dtype=torch.int32)
    return AffineGrid(codes_of(granularity, values, step, zero, bits, False), step, zero, bits, granularity)
