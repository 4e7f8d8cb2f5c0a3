"""What a training does to its inputs: images are shifted, mirrored or smaller, words of a text masked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.pieces import PAD, UNKNOWN
from engine.net.train.plan import Plan
from engine.net.train.rewording import reworded


def augment(inputs: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
    """Shifted and mirrored copies of (n, c, h, w); borders are filled with zeros (the mean colour).

    Of texts (n, places), copies with masked words, or reworded ones.
    """
    if plan.rewording is not None:
        return reworded(inputs, plan.rewording, generator)
    if plan.mask_words:
        masked = torch.rand(inputs.shape, generator=generator) < plan.mask_words
        return torch.where(masked & (inputs != PAD), UNKNOWN, inputs)
    if not plan.shift and not plan.flip:
        return inputs
    n, _, height, width = inputs.shape
    if plan.shift:
        span = 2 * plan.shift + 1
        top, left = (torch.randint(span, (n, 1), generator=generator) for _ in range(2))
        inputs = shifted(F.pad(inputs, (plan.shift,) * 4), top, left, height, width)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    if plan.flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        inputs = torch.where(mirrored.view(n, 1, 1, 1), inputs.flip(3), inputs)
    return inputs


def shifted(padded: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Of each padded image (n, c, h, w) the window at its own `top` and `left`, both (n, 1).

    >>> image = torch.arange(9.0).view(1, 1, 3, 3)
    >>> shifted(image, torch.tensor([[1]]), torch.tensor([[0]]), 2, 2).flatten().tolist()
    [3.0, 4.0, 6.0, 7.0]
    """
    n, channels, _, wide = padded.shape
    window = (torch.arange(height).view(-1, 1) * wide + torch.arange(width)).view(1, -1)
    places = (top * wide + left + window).unsqueeze(1).expand(n, channels, height * width)
    return padded.flatten(2).gather(2, places).view(n, channels, height, width)


def smaller(inputs: Tensor) -> Tensor:
    """Images (n, c, h, w) at 3/4 of their height and width.

    >>> smaller(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3, 24, 24])
    """
    return F.interpolate(inputs, scale_factor=0.75, mode="bilinear", antialias=True)
