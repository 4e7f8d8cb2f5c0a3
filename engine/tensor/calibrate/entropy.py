"""The clip that loses the least information: Kullback-Leibler divergence between histograms (TensorRT).

Migacz 2017, 8-bit Inference with TensorRT, GTC 2017. Magnitudes are counted in up to 2,048 bins. A clip at
bin i is judged by two distributions over the first i bins: one with all that lies beyond counted into the
last bin, one in which each level's share of the bins has its mean count, where there is any.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 2048
EACH = 8  # values a bin on average: rows of few values have fewer bins
AT_ONCE = 1 << 20  # numbers in memory

Floats = NDArray[np.float64]


def entropy_clip(block: Tensor, levels: int) -> Tensor:
    """For each row (r, n) the magnitude to clip at, (r,) float64: that of least divergence.

    On a tie the smaller one. `levels` is how many values magnitudes can take. Exact zeros are no values:
    they are a mask, or what ReLU cut off. Rows of n values have n / 8 bins, from `levels` to 2,048; where all
    are zeros, the clip is 0.
    """
    bins = max(levels, min(BINS, block.shape[1] // EACH))
    widest = block.abs().amax(1).double()
    if bins == levels:  # nothing can be clipped
        return widest
    counts = histograms(block, widest, bins)
    at = [each.argmin(1) for each in _divided(counts, levels)]
    return widest * (levels + torch.from_numpy(np.concatenate(at))).double() / bins


def histograms(block: Tensor, widest: Tensor, bins: int) -> Floats:
    """How many magnitudes of each row lie in each of `bins` bins from 0 to its `widest`: (r, bins)."""
    scale = torch.where(widest > 0, widest, 1.0).unsqueeze(1)
    place = (block.abs().double() * (bins / scale)).long().clamp_(max=bins - 1)
    place += bins * torch.arange(len(block)).unsqueeze(1)
    found = torch.bincount(place[block != 0], minlength=bins * len(block))
    return found.view(len(block), bins).double().numpy()


def _divided(counts: Floats, levels: int) -> list[Floats]:
    candidates = counts.shape[1] - levels + 1
    few = max(AT_ONCE // (candidates * levels), 1)
    return [divergences(counts[i : i + few], levels) for i in range(0, len(counts), few)]


def divergences(counts: Floats, levels: int) -> Floats:
    """KL(P || Q) of a clip at each bin from `levels` to the last: (r, bins) -> (r, bins - levels + 1).

    Infinite where a level has nothing in it but what lies beyond the clip. Prefix sums make each candidate
    cost its levels, not its bins: KL is sum P log P - sum over levels of P log Q, each divided by its total.

    >>> divergences(np.array([[4.0, 4.0, 1.0, 1.0]]), 2).round(3).tolist()
    [[0.02, 0.038, 0.0]]
    """
    ends = np.arange(levels, counts.shape[1] + 1)
    last = (ends - 1).astype(np.intp)
    starts = np.arange(levels) * (ends // levels)[:, None]  # (candidates, levels)
    stops = np.concatenate((starts[:, 1:], ends[:, None]), axis=1)
    sums, filled, logs = (_before(each) for each in (counts, counts > 0, counts * _log(counts)))
    total = sums[:, -1:]
    beyond = total - sums[:, ends]  # (r, candidates)
    grouped = sums[:, stops] - sums[:, starts]  # (r, candidates, levels)
    bins = filled[:, stops] - filled[:, starts]
    bins[..., -1] += (counts[:, last] == 0) & (beyond > 0)
    quantized = _log(grouped / np.maximum(bins, 1))
    grouped[..., -1] += beyond
    edge = counts[:, last] + beyond
    own = logs[:, last] + edge * _log(edge)
    found = (own - (grouped * quantized).sum(2)) / np.maximum(total, 1)
    found += _log(sums[:, ends]) - _log(total)
    lost = (grouped[..., -1] > 0) & (grouped[..., -1] == beyond)
    return np.where(lost, np.inf, np.maximum(found, 0.0))


def _before(values: NDArray[np.generic]) -> Floats:
    """Sums of the first 0, 1, ... values of each row: (r, n + 1)."""
    return np.concatenate((np.zeros((len(values), 1)), np.cumsum(values, axis=1, dtype=np.float64)), axis=1)


def _log(values: Floats) -> Floats:
    """Logarithms, 0 of what is 0."""
    return np.log(np.where(values > 0, values, 1.0))
