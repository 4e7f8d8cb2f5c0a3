"""Learned intervals of weights: what lies below one is zero, what lies above is the outermost level.

Jung 2019, Learning to Quantize Deep Networks by Optimizing Quantization Intervals with Task Loss, arXiv
1808.05779. An interval has a centre c and a half width d: it goes from the prune point c - d to the clip
point c + d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid
from engine.tensor.formats.through import StraightThrough, above_zero, through

TRIED = 50  # clip points that are tried at the start, even shares of the largest magnitude
SKETCH = 2**16  # weights that they are tried on, about


def transformed(values: Tensor, centre: Tensor, distance: Tensor) -> Tensor:
    """Magnitudes from the prune point to the clip point as 0 to 1, with their signs; beyond it is 1.

    The paper's equation 3 with an exponent of 1. Autograd gives the gradients of all three.

    >>> values = torch.tensor([0.2, 0.5, -0.6, -2.0])
    >>> [round(x, 4) for x in transformed(values, torch.tensor(0.5), torch.tensor(0.25)).tolist()]
    [0.0, 0.5, -0.7, -1.0]
    """
    inside: Tensor = (values.abs() - (centre - distance)) / (2 * distance)
    return inside.clamp(0, 1) * values.sign()


class Interval(StraightThrough):
    """Weights rounded within an interval that learns; codes -q to q with q = 2^(bits - 1) - 1.

    The scale, which is the outermost level, learns as well: the paper leaves it to the batch-norm behind each
    layer. `bits` may be changed while it trains. Rounding passes gradients straight through.
    """

    def __init__(self, values: Tensor, bits: int) -> None:
        """Begins at zero, and ends where the squared error of the values is least."""
        super().__init__()
        clip, scale = best_clip(values, bits)
        self.centre, self.distance = nn.Parameter(clip / 2), nn.Parameter(clip / 2)
        self.scale = nn.Parameter(scale)
        self.bits = bits

    def forward(self, latent: Tensor) -> Tensor:
        steps = self._steps(latent)
        return through(steps, steps.detach().round()) * self._step()

    def encode(self, latent: Tensor) -> AffineGrid:
        codes = self._steps(latent.detach()).detach().round().to(torch.int32)
        return AffineGrid(codes, self._step().detach().view(1), torch.zeros(1, dtype=torch.int32), self.bits)

    def points(self) -> tuple[float, float]:
        """The prune point and the clip point; up to a prune point below zero nothing is pruned."""
        centre, distance = self.centre.detach(), above_zero(self.distance).detach()
        return float(centre - distance), float(centre + distance)

    def _steps(self, latent: Tensor) -> Tensor:
        return transformed(latent, self.centre, above_zero(self.distance)) * self._top()

    def _step(self) -> Tensor:
        return above_zero(self.scale) / self._top()

    def _top(self) -> int:
        return code_range(self.bits, True)[1]


def best_clip(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The clip point and the scale of least squared error, with a prune point of zero: two numbers.

    Of codes q, the error is least at the step <w, q> / <q, q>, and falls by <w, q>^2 / <q, q>. Of a large
    tensor some values are looked at, an odd stride apart.

    >>> [x.item() for x in best_clip(torch.tensor([1.0, -1.0, 0.0]), 2)]
    [1.0, 1.0]
    """
    values, top = values.detach(), code_range(bits, True)[1]
    largest = values.abs().max()
    if not bool(largest > 0):
        return torch.ones(()), torch.ones(())
    values = values.flatten()[:: -(-values.numel() // SKETCH) | 1]
    best = (0.0, torch.ones(()), torch.ones(()))
    for share in range(TRIED, 0, -1):
        clip = largest * share / TRIED
        codes = (transformed(values, clip / 2, clip / 2) * top).round()
        product, square = (float((codes * other).sum(dtype=torch.float64)) for other in (values, codes))
        if square > 0 and product * product / square > best[0]:
            best = (product * product / square, clip, torch.tensor(product / square * top))
    return best[1], best[2]
