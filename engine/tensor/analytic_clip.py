"""Clips and bits from a formula: what a distribution of known form loses by clipping and by rounding.

Banner 2019, Post-training 4-bit quantization, arXiv 1810.05723. Rows in, rows out; which layer they are of
is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

LAPLACE, NORMAL, LIKELIER = "laplace", "normal", "likelier"


@cache
def best_clip(levels: float, distribution: str) -> float:
    """The clip of least expected squared error, in units of E|w| (laplace) or of sqrt(E w^2) (normal).

    `levels` bins of equal width span the clip on both sides of zero; 2^M of them are the paper's M bits.

    >>> [round(best_clip(2**bits, LAPLACE), 3) for bits in (2, 3, 4)]
    [2.831, 3.897, 5.029]
    """
    slope = _laplace_slope if distribution == LAPLACE else _normal_slope
    return _root(lambda clip: slope(clip, levels), 1e-6, 60.0)


def _laplace_slope(clip: float, levels: float) -> float:
    """Derivative of 2 exp(-a) + a^2 / (3 levels^2)."""
    return -2 * math.exp(-clip) + 2 * clip / (3 * levels**2)


def _normal_slope(clip: float, levels: float) -> float:
    """Derivative of (1 + a^2) erfc(a / sqrt 2) - sqrt(2 / pi) a exp(-a^2 / 2) + a^2 / (3 levels^2)."""
    tail = 2 * clip * math.erfc(clip / math.sqrt(2))
    return tail - 2 * math.sqrt(2 / math.pi) * math.exp(-(clip**2) / 2) + 2 * clip / (3 * levels**2)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def spread(rows: Tensor, distribution: str) -> tuple[Tensor, list[str]]:
    """The spread of each row's non-zero weights about zero (r,) float64, and the distribution it is of.

    `likelier` takes for each row the one under which its weights have the larger likelihood.
    """
    wide, count = rows.double(), (rows != 0).sum(1).clamp(min=1)
    mean, root = wide.abs().sum(1) / count, (wide.square().sum(1) / count).sqrt()
    if distribution == LIKELIER:  # log densities: -log 2b - 1 and -log(s sqrt 2 pi) - 1/2
        normal = mean.log() + math.log(2) + 1 > root.log() + 0.5 * math.log(2 * math.pi) + 0.5
    else:
        normal = torch.full((len(rows),), distribution == NORMAL)
    kinds = [NORMAL if each else LAPLACE for each in normal.tolist()]
    return torch.where(normal, root, mean), kinds


def shared_bits(spreads: Tensor, mean: int, least: int, most: int) -> Tensor:
    """Bits of each row, int32, on average at most `mean`: levels go by the spread to the power of 2/3.

    That is the optimum of Banner 2019, section 3, before bits are rounded to whole ones.

    >>> shared_bits(torch.tensor([1.0, 1.0, 8.0, 8.0]), 4, 2, 8).tolist()
    [3, 3, 5, 5]
    """
    wanted = 2 / 3 * spreads.clamp(min=torch.finfo(torch.float64).tiny).double().log2()
    wanted = wanted - wanted.max()

    def dealt(more: float) -> Tensor:
        return (wanted + more).round().clamp(least, most).to(torch.int32)

    low, high = float(least), most - float(wanted.min()) + 1
    for _ in range(60):
        middle = (low + high) / 2
        fits = float(dealt(middle).double().mean()) <= mean
        low, high = (middle, high) if fits else (low, middle)
    return dealt(low)


def corrected(original: Tensor, rounded: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and offset (r,) float64 that give each row of `rounded` the mean and deviation of `original`.

    Only where `used` (rows, columns) is true. Rows that were rounded to one value only get the offset.
    """
    count = used.sum(1).clamp(min=1)
    before, after = (torch.where(used, each.double(), 0.0) for each in (original, rounded))
    means = [each.sum(1) / count for each in (before, after)]
    deviations = [
        torch.where(used, each - mean[:, None], 0.0).square().sum(1).sqrt()
        for each, mean in zip((before, after), means, strict=True)
    ]
    varies = (deviations[0] > 0) & (deviations[1] > 0)
    factor = torch.where(varies, deviations[0] / deviations[1].clamp(min=1e-300), 1.0)
    return factor, means[0] - factor * means[1]
