"""What a training does to its inputs: images are shifted, mirrored or smaller, words of a text masked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.pieces import PAD, UNKNOWN
from engine.net.train.plan import Plan


def augment(inputs: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
    """Shifted and mirrored copies of (n, c, h, w); borders are filled with zeros (the mean colour).

    Of texts (n, places), copies with masked words.
    """
    if plan.mask_words:
        masked = torch.rand(inputs.shape, generator=generator) < plan.mask_words
        return torch.where(masked & (inputs != PAD), UNKNOWN, inputs)
    if not plan.shift and not plan.flip:
        return inputs
    n, _, height, width = inputs.shape
    if plan.shift:
        span = 2 * plan.shift + 1
        padded = F.pad(inputs, (plan.shift,) * 4)
        top = torch.randint(span, (n, 1), generator=generator) + torch.arange(height)
        left = torch.randint(span, (n, 1), generator=generator) + torch.arange(width)
        rows = torch.arange(n).view(n, 1, 1)
        inputs = padded.permute(0, 2, 3, 1)[rows, top.unsqueeze(2), left.unsqueeze(1)].permute(0, 3, 1, 2)
    if plan.flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        inputs = torch.where(mirrored.view(n, 1, 1, 1), inputs.flip(3), inputs)
    return inputs


def smaller(inputs: Tensor) -> Tensor:
    """Images (n, c, h, w) at 3/4 of their height and width.

    >>> smaller(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3, 24, 24])
    """
    return F.interpolate(inputs, scale_factor=0.75, mode="bilinear", antialias=True)
