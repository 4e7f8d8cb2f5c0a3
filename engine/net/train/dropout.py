"""Dropout for trainings that resume exactly: torch's draws from a generator that no checkpoint keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeededDropout(nn.Module):
    """Zeroes a share of its inputs in training, and scales the rest up to the same mean.

    Masks follow from the seed and from how many were drawn, which is a buffer: a checkpoint keeps it.
    (Srivastava et al. 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting)

    >>> SeededDropout(0.5, seed=0)(torch.ones(1, 8)).tolist()
    [[0.0, 2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0]]
    """

    drawn: Tensor

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.share, self.seed = share, seed
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        rng = torch.Generator().manual_seed(1_000_003 * self.seed + int(self.drawn))
        self.drawn += 1
        kept = torch.rand(x.shape, generator=rng) >= self.share
        return x * kept / (1 - self.share)
