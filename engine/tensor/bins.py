"""Values in bins by the upper 16 bits of their floats: gathered in one pass, put in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.index import Floats, Moments, Wide, ends_of

BINS = 1 << 16
SIGN = 1 << 15
FINITE = 0x7F80  # bins of one sign; above lie infinity and what is no number
CHUNK = 1 << 18  # weights looked at together, 8 MB of float64 and places


def gathered(tensors: Sequence[Tensor]) -> tuple[Moments, int, tuple[float, float]]:
    """One pass: what each of the 65,536 bins holds but zeros, the number of zeros, and the extremes."""
    counts, sums, squares = np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS)
    zeros, ends = 0, []
    for chunk in chunks(tensors):
        ends.append(ends_of(chunk, chunk))
        bits = chunk.view(np.uint32)
        for zero in (0, SIGN << 16):
            found = int((bits == zero).sum())
            counts[zero >> 16] -= found
            zeros += found
        key, wide = (bits >> 16).astype(np.intp), chunk.astype(np.float64)
        counts += np.bincount(key, minlength=BINS)
        sums += np.bincount(key, wide, BINS)
        squares += np.bincount(key, np.square(wide, out=wide), BINS)
    every = np.array(ends, dtype=np.float32).reshape(-1, 2)
    return Moments(counts, sums, squares), zeros, ends_of(every[:, 0], every[:, 1])


def chunks(tensors: Sequence[Tensor]) -> Iterator[Floats]:
    for tensor in tensors:
        flat = tensor.detach().flatten()
        for start in range(0, len(flat), CHUNK):
            yield flat[start : start + CHUNK].to(torch.float32).contiguous().numpy()


def rising(bins: Moments, zeros: int) -> tuple[Floats, Floats, Moments]:
    """The bins that hold values, from low to high, zeros as one of their own: (lows, highs, parts)."""
    key = np.arange(FINITE, dtype=np.uint32) << 16
    near, far = key.view(np.float32), (key | 0xFFFF).view(np.float32)  # ends of a bin by magnitude
    lows, highs = (np.concatenate(ends) for ends in ((-far[::-1], [0.0], near), (-near[::-1], [0.0], far)))

    def ordered(held: NDArray[Any], of_zeros: int) -> NDArray[Any]:
        return np.concatenate(
            (held[SIGN : SIGN + FINITE][::-1], np.array([of_zeros], held.dtype), held[:FINITE])
        )

    counts = ordered(bins.counts, zeros)
    alive = counts > 0
    parts = Moments(counts[alive], ordered(bins.sums, 0)[alive], ordered(bins.squares, 0)[alive])
    return lows[alive].astype(np.float32), highs[alive].astype(np.float32), parts


def widths(low: Floats, high: Floats) -> Wide:
    widths: Wide = high.astype(np.float64) - low
    return widths


def slopes(low: Floats, high: Floats, parts: Moments) -> Wide:
    """The slope of each bin's density, 1 + slope (1 - 2 u) for u from 0 to 1, that gives it its mean."""
    width = widths(low, high)
    mean = (parts.sums / parts.counts - low) / np.where(width > 0, width, 1.0)
    return np.where(width > 0, np.clip(3 - 6 * mean, -1.0, 1.0), 0.0)
