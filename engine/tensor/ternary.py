"""Three values: -a, 0 and a with the least squared error, or -n, 0 and p that are trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.tensor.formats import Codebook, Levels
from engine.tensor.formats.through import StraightThrough, above_zero, through
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


# ---------------------------------------------------------------- trained


def scaled(values: Tensor) -> Tensor:
    """Weights over their largest magnitude: within -1 and 1.

    >>> scaled(torch.tensor([2.0, -4.0])).tolist()
    [0.5, -1.0]
    """
    largest = values.abs().max()
    return values / largest if bool(largest > 0) else values


def three_values(values: Tensor, share: float) -> Codebook:
    """The table -n, 0, p: weights up to `share` of the largest magnitude become zero.

    p and n are the mean magnitudes of what stays on their side: the least squared error.

    >>> book = three_values(torch.tensor([4.0, 2.0, 0.5, -1.0]), 0.2)
    >>> book.decode().tolist(), book.table.tolist()
    ([3.0, 3.0, 0.0, -1.0], [-1.0, 0.0, 3.0])
    """
    values = values.detach()
    above, below = _sides(values, share)
    known = [float(values[side].double().abs().mean()) for side in (below, above) if bool(side.any())]
    negative, positive = (*known, *known, 1.0, 1.0)[:2]  # a side without weights has the other's
    return _book(above, below, torch.tensor([-negative, 0.0, positive]))


class ThreeValues(StraightThrough):
    """Ternary weights with two scales that learn (Zhu 2017, Trained Ternary Quantization, arXiv 1612.01064).

    A scale's gradient is the sum over its weights, with the sign that they have. A weight's is scaled by p
    above the threshold, by n below its negative, and passes as it is between: equations 7 and 8. The
    threshold follows the largest magnitude.

    >>> module = ThreeValues(three_values(torch.tensor([1.0, 0.01, -0.5]), 0.05), 0.05)
    >>> latent = torch.tensor([1.0, 0.01, -0.5], requires_grad=True)
    >>> module(latent).sum().backward()
    >>> latent.grad.tolist(), module.positive.grad.item(), module.negative.grad.item()
    ([1.0, 1.0, 0.5], 1.0, -1.0)
    """

    def __init__(self, book: Codebook, share: float) -> None:
        super().__init__()
        self.negative, self.positive = (nn.Parameter(book.table[at].abs().clone()) for at in (0, 2))
        self.share = share

    def forward(self, latent: Tensor) -> Tensor:
        above, below = _sides(latent.detach(), self.share)
        negative, positive = above_zero(self.negative), above_zero(self.positive)
        slope = torch.where(above, positive, torch.where(below, negative, 1.0)).detach()
        return through(slope * latent, above * positive - below * negative)

    def encode(self, latent: Tensor) -> Codebook:
        table = torch.stack([-above_zero(self.negative), torch.zeros(()), above_zero(self.positive)])
        return _book(*_sides(latent.detach(), self.share), table.detach())


def _sides(values: Tensor, share: float) -> tuple[Tensor, Tensor]:
    border = share * values.abs().max()
    return values > border, values < -border


def _book(above: Tensor, below: Tensor, table: Tensor) -> Codebook:
    return Codebook(1 + above.to(torch.int32) - below.to(torch.int32), table)
