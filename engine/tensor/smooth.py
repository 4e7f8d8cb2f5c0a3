"""SmoothQuant as arithmetic: how much of a channel's range moves from what enters a layer to its weights.

Xiao et al. 2023, SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models,
arXiv 2211.10438, section 4. Which layers pass channels on to which others is not known here.
"""

from __future__ import annotations

from torch import Tensor, where

from engine.tensor.equalize import MOST


def factors(inputs: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """s = max|X|^alpha / max|W|^(1 - alpha) of each channel (channels,): inputs are divided by it.

    `inputs` and `weights` are the largest magnitudes of each channel. A channel that is dead on either side
    has factor 1, and none is larger than `MOST` or smaller than its inverse.

    >>> import torch
    >>> factors(torch.tensor([16.0, 1.0, 0.0]), torch.tensor([0.25, 4.0, 1.0]), 0.5).tolist()
    [8.0, 0.5, 1.0]
    """
    alive = (inputs > 0) & (weights > 0)
    ones = inputs.new_ones(())
    found = where(alive, inputs, ones) ** alpha / where(alive, weights, ones) ** (1 - alpha)
    return found.clamp(1 / MOST, MOST)


def divided(inputs: Tensor, weights: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """The largest magnitudes of each channel behind it: of the inputs, and of the weights.

    >>> import torch
    >>> both = divided(torch.tensor([16.0, 1.0]), torch.tensor([0.25, 4.0]), torch.tensor([8.0, 0.5]))
    >>> [each.tolist() for each in both]
    [[2.0, 2.0], [2.0, 2.0]]
    """
    return inputs / by, weights * by
