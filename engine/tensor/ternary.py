"""Three values, -a, 0 and a: the threshold and the scale of least squared error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.tensor.formats import Levels
from engine.tensor.granularity import TENSOR, Granularity

RULE = 0.7  # times the mean magnitude: the paper's threshold for normal weights


def ternarize(values: Tensor, granularity: Granularity = TENSOR, exact: bool = True) -> tuple[Levels, Tensor]:
    """Ternary weights, and the threshold of each tile: weights up to it become zero.

    `exact` gives the least squared error; else weights above 0.7 of the mean magnitude stay
    (Li 2016, Ternary Weight Networks, arXiv 1605.04711). The scale is the mean magnitude of what stays.

    >>> levels, threshold = ternarize(torch.tensor([4.0, -2.0, 0.5]))
    >>> levels.decode().tolist(), threshold.tolist()
    ([3.0, -3.0, 0.0], [0.5])
    """
    values = values.detach()
    granularity.check("a tensor", values.shape)
    scale = torch.ones(math.prod(granularity.tiles(values.shape)))
    threshold = torch.zeros_like(scale)
    for places, tiles in granularity.cut(values):
        scale[places], threshold[places] = (_best if exact else _by_rule)(tiles.abs())
    above = granularity.matrix(values).abs() > granularity.spread(threshold, values.shape)
    kept = granularity.back(above, values.shape)
    codes = torch.where(kept, values.sign(), 0.0).to(torch.int32)
    return Levels(codes, scale, "ternary", granularity), threshold


def _best(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Of k largest magnitudes with the sum S, S^2 / k is what the error falls by: the best k of each row.

    The cut never falls between equal magnitudes: splitting a run of them is no better than its better end.
    """
    falling = sizes.sort(1, descending=True).values
    sums = falling.double().cumsum(1)
    count = torch.arange(1, sizes.shape[1] + 1, dtype=torch.float64)
    gain = sums.square() / count
    ends = torch.cat([falling[:, :-1] > falling[:, 1:], torch.ones(len(sizes), 1, dtype=torch.bool)], 1)
    best = torch.where(ends, gain, -1.0).argmax(1, keepdim=True)
    threshold = torch.cat([falling, torch.zeros(len(sizes), 1)], 1).gather(1, best + 1)
    scale = (sums.gather(1, best) / (best + 1)).to(torch.float32)
    return torch.where(scale > 0, scale, 1.0).flatten(), threshold.flatten()


def _by_rule(sizes: Tensor) -> tuple[Tensor, Tensor]:
    threshold = (RULE * sizes.double().mean(1, keepdim=True)).to(torch.float32)
    above = sizes > threshold
    mean = torch.where(above, sizes, 0.0).sum(1, dtype=torch.float64) / above.sum(1).clamp(min=1)
    return torch.where(mean > 0, mean, 1.0).to(torch.float32), threshold.flatten()
