"""Random numbers from a seed and each row's own content, so that some rows get what they get among all."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))

Words = NDArray[np.uint64]


def uniform(values: Tensor, seed: int) -> Tensor:
    """One number from 0 to below 1, float64, for each of `values` (float32), in their shape.

    SplitMix64 (Steele 2014), started from the seed and the sum of a row's bits, counts along the row; a row
    is what lies at one place of the first axis. Equal rows get equal numbers.
    """
    rows = values.detach().reshape(len(values) if values.dim() > 1 else 1, -1).contiguous()
    bits = rows.view(torch.int32).numpy().astype(np.int64).view(np.uint64)
    start = _mixed(bits.sum(1) ^ _mixed(np.array([seed], np.uint64) + GOLDEN))
    place = np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * GOLDEN
    drawn = _mixed(start[:, None] + place) >> np.uint64(11)
    return torch.from_numpy(drawn.astype(np.float64) * 2.0**-53).reshape(values.shape)


def _mixed(words: Words) -> Words:
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        words = (words ^ (words >> shift)) * factor
    return words ^ (words >> SHIFTS[-1])
