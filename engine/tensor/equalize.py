"""Cross-layer equalization as arithmetic: ranges of channels, and the factors that make two of them equal.

Nagel et al. 2019, Data-Free Quantization, arXiv 1906.04721, section 4.1. Which layers pass their channels on
to which others is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 1e4  # a channel is never scaled by more, up or down: a bias that goes along would be too large


def along(at: Sequence[int], block: int, factors: Tensor, length: int) -> Tensor:
    """Factors along an axis of `length`: that of channel c at `block` places from `at[c]` on, elsewhere 1.

    >>> along([2, 0], 2, torch.tensor([3.0, 5.0]), 5).tolist()
    [5.0, 5.0, 3.0, 3.0, 1.0]
    """
    places = torch.ones(length, dtype=factors.dtype)
    places[_places(at, block)] = factors[:, None].expand(-1, block)
    return places


def scaled(values: Tensor, axis: int, places: Tensor) -> Tensor:
    """Values times the factor of their place along the axis."""
    shape = [-1 if each == axis else 1 for each in range(values.dim())]
    return values * places.reshape(shape)


def ranges(values: Tensor, axis: int, at: Sequence[int], block: int = 1) -> Tensor:
    """The largest magnitude of each channel: (channels,).

    >>> ranges(torch.tensor([[1.0, -4.0], [0.5, 2.0]]), 0, [0, 1]).tolist()
    [4.0, 2.0]
    """
    each = values.movedim(axis, 0).flatten(1).abs().amax(1)
    return each[_places(at, block)].amax(1)


def _places(at: Sequence[int], block: int) -> Tensor:
    return torch.tensor(at)[:, None] + torch.arange(block)


def factors(made: Tensor, read: Tensor) -> Tensor:
    """s = sqrt(r1 r2) / r2 of each channel: the layer that makes it is divided by s, its reader multiplied.

    Both ranges are then sqrt(r1 r2). A channel that is made or read with zeros alone has factor 1.

    >>> factors(torch.tensor([8.0, 0.0]), torch.tensor([2.0, 1.0])).tolist()
    [2.0, 1.0]
    """
    alive = (made > 0) & (read > 0)
    return torch.where(alive, torch.sqrt(made / torch.where(alive, read, 1.0)), 1.0)


def precision(each: Tensor) -> float:
    """Mean over channels of their range over the layer's: 1 where all are equal, and nothing is wasted.

    >>> precision(torch.tensor([1.0, 0.5, 0.0]))
    0.5
    """
    largest = float(each.max())
    return float(each.mean()) / largest if largest > 0 else 1.0


def joint_precision(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """What equalization maximizes: mean over channels of both precisions' product, of ranges (made, read).

    >>> joint_precision([(torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0]))])
    0.5
    """
    alive = [(made, read) for made, read in pairs if float(made.max()) > 0 and float(read.max()) > 0]
    each = [made / made.max() * (read / read.max()) for made, read in alive]
    return float(torch.cat(each).mean()) if each else 1.0
