"""HQQ's zero points: those that leave most errors small and some large, searched for without data.

Badri & Shaji 2023, Half-Quadratic Quantization of Large Machine Learning Models, mobiusml.github.io/hqq_blog.
Here errors are counted in steps of their tile, so that what counts as large does not hang on a layer's scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.tensor import grids
from engine.tensor.formats import Shifted
from engine.tensor.formats.shifted import parts_of_step
from engine.tensor.granularity import Granularity

ROUNDS = 20
BETA, KAPPA = 10.0, 1.01  # how hard errors are held together at first, and how much harder after each round


def quantized(values: Tensor, bits: int, granularity: Granularity, range: str, p: float) -> Shifted:
    """`values` in codes of 1 to 8 bits: scales of the range's asymmetric grid, zero points of `best_points`.

    Exact zeros stay, and take no part in the search.
    """
    grid = grids.quantize(values, bits, False, granularity, range)
    parts, points = parts_of_step(bits), grid.zero * parts_of_step(bits)
    for numbers, tiles in granularity.cut(values.detach()):
        steps = tiles / grid.scale[numbers, None]
        points[numbers] = best_points(steps, grid.zero[numbers], bits, p)
    scale, zero = (granularity.spread(each, values.shape) for each in (grid.scale, points))
    codes = ((granularity.matrix(values) / scale) + zero / parts).round_().clamp_(0, (1 << bits) - 1)
    whole = granularity.back(codes.to(torch.int32), values.shape)
    return Shifted(torch.where(values == 0, 1 << bits, whole), grid.scale, points, bits, granularity)


def best_points(steps: Tensor, zero: Tensor, bits: int, p: float) -> Tensor:
    """The zero point of each tile, int32 in parts of a step (`parts_of_step`): (tiles,).

    `steps` (tiles, weights) are weights in steps of their tile, `zero` (tiles,) the codes to begin with. In
    turns errors are split off by `shrunk`, and the zero point becomes the mean of code - (weight - error).
    Of all points that came by, each tile keeps the one of least `objective`, which is never above that of
    `zero`.
    """
    top, parts, alive = (1 << bits) - 1, parts_of_step(bits), steps != 0
    count = alive.sum(1, keepdim=True).clamp(min=1)
    point, beta = zero.to(torch.float32)[:, None], BETA
    best, least = point, objective(steps, point, bits, p)
    for _ in range(ROUNDS):
        codes = (steps + point).round().clamp(0, top)
        error = shrunk(steps - (codes - point), beta, p)
        mean = torch.where(alive, codes - (steps - error), 0.0).sum(1, keepdim=True) / count
        point = (mean * parts).round().clamp(0, 255) / parts
        now = objective(steps, point, bits, p)
        best, least = torch.where(now < least, point, best), torch.minimum(now, least)
        beta *= KAPPA
    return (best[:, 0] * parts).to(torch.int32)


def objective(steps: Tensor, point: Tensor, bits: int, p: float) -> Tensor:
    """Sum of |error in steps|^p of each tile, exact zeros left out: (tiles, 1).

    >>> objective(torch.tensor([[0.25, 1.0, 0.0]]), torch.zeros(1, 1), 2, 0.5).tolist()
    [[0.5]]
    """
    codes = (steps + point).round().clamp(0, (1 << bits) - 1)
    off = (steps - (codes - point)).abs().double() ** p
    return torch.where(steps != 0, off, 0.0).sum(1, keepdim=True)


def shrunk(errors: Tensor, beta: float, p: float) -> Tensor:
    """Generalised soft threshold: sign(e) max(|e| - |e|^(p - 1) / beta, 0), small errors become 0.

    >>> shrunk(torch.tensor([0.0, 0.01, -4.0]), 1.0, 0.5).tolist()
    [0.0, 0.0, -3.5]
    """
    size = errors.abs()
    return errors.sign() * torch.relu(size - size ** (p - 1) / beta)
