"""Moving averages of the extremes of batches (Jacob 2018, arXiv 1712.05877, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

RATE = 0.01  # how much a batch moves the average, as in torch's MovingAverageMinMaxObserver


def moving_average(extremes: Tensor, rate: float = RATE) -> Tensor:
    """The average of values (n,) float32 that come one after another; it starts at the first.

    >>> float(moving_average(torch.tensor([1.0, 3.0]), 0.5))
    2.0
    """
    wide = extremes.double()
    weights = rate * (1 - rate) ** torch.arange(len(wide) - 1, -1, -1, dtype=torch.float64)
    weights[0] /= rate
    return wide @ weights
