"""Learned groups of a convolution: which input channels each group of filters drops, and when."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def stages(steps: int, factor: int) -> dict[int, int]:
    """Batch -> stage that begins before it: 1 .. factor - 1, evenly over the first half of the batches."""
    return {
        min(math.ceil(steps * stage / (2 * (factor - 1))), steps - 1): stage for stage in range(1, factor)
    }


def mask(weight: Tensor, groups: int, share: float) -> Tensor:
    """Which weights (outputs, inputs, h, w) stay when each group drops the share of its inputs it uses least.

    Filter i is in group i mod groups; what an input is worth to a group is the sum of the sizes of its
    weights there. Of equals the first go.

    >>> mask(torch.tensor([[3.0, 1.0], [1.0, 3.0]]).view(2, 2, 1, 1), 2, 0.5).flatten().tolist()
    [True, False, False, True]
    """
    inputs = weight.shape[1]
    order = worth(weight, groups).argsort(dim=1, stable=True)
    kept = torch.ones(groups, inputs, dtype=torch.bool).scatter_(1, order[:, : round(share * inputs)], False)
    return kept[torch.arange(len(weight)) % groups][..., None, None].expand(weight.shape)


def worth(weight: Tensor, groups: int) -> Tensor:
    """Sum of sizes for each group and input: (groups, inputs), float64."""
    sizes = weight.detach().double().abs().sum((2, 3))
    return torch.stack([sizes[group::groups].sum(0) for group in range(groups)])


def read_by(weight: Tensor, groups: int, factor: int) -> list[list[int]]:
    """The input channels that each group still reads, ascending."""
    top = worth(weight, groups).argsort(dim=1, stable=True)[:, -(weight.shape[1] // factor) :]
    return [sorted(channels) for channels in top.tolist()]
