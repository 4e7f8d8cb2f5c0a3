"""The ends of a range for each row of values, by the name of a calibration method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.tensor import analytic_clip
from engine.tensor.calibrate.entropy import entropy_clip
from engine.tensor.calibrate.least_error import best_fraction

Rule = Callable[[Tensor, int, bool, bool], Tensor]
METHODS = ("minmax", "percentile", "mse", "kl", "aciq")
BY_BITS = ("mse", "kl", "aciq")  # with more bits they clip less


def span(
    block: Tensor, bits: int, symmetric: bool, method: str, percentile: float = 99.9
) -> tuple[Tensor, Tensor]:
    """(low, high), float64, of each row of `block` (r, n) float32, by one of METHODS.

    `minmax` keeps the extremes, `percentile` that share of the non-zero values (asymmetric: an equal share
    is cut at either end). `mse` takes the clip of least squared error out of 1 %, 2 %, ... 100 % of them,
    `kl` that of least divergence between histograms (Migacz 2017), and `aciq` the one that a normal or
    Laplace distribution of their spread would have (Banner 2019, arXiv 1810.05723), whichever is likelier;
    neither goes beyond the extremes.

    >>> span(torch.tensor([[-1.0, 0.5, 2.0]]), 8, False, "minmax")[1].tolist()
    [2.0]
    """
    if method == "percentile":
        return _percentile_range(block, percentile, symmetric)
    low, high = block.amin(1).double(), block.amax(1).double()
    if method == "mse":
        best = best_fraction(block, low, high, bits, symmetric)
        return low * best, high * best
    if method in CLIPS:
        clip = _clip(block, low, high, bits, symmetric, CLIPS[method])
        return torch.maximum(low, -clip), torch.minimum(high, clip)
    return low, high


def _clip(block: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool, rule: Rule) -> Tensor:
    """Magnitudes to clip at, (r,) float64; values of one sign only have all codes of an asymmetric grid."""
    clip = torch.zeros(len(block), dtype=torch.float64)
    single = ((low >= 0) | (high <= 0)) & (not symmetric)
    for rows, is_single in ((~single, False), (single, True)):
        if bool(rows.any()):
            clip[rows] = rule(block[rows], bits, symmetric, is_single)
    return clip


def _least_divergence(block: Tensor, bits: int, symmetric: bool, is_single: bool) -> Tensor:
    return entropy_clip(block, 2**bits if is_single else 2 ** (bits - 1))


def _analytic(block: Tensor, bits: int, symmetric: bool, is_single: bool) -> Tensor:
    """A grid's steps over a clip's both sides; from zero on, there are twice as many (one bit more)."""
    steps = 2 * (2**bits - 1) if is_single else 2**bits - (2 if symmetric else 1)
    spreads, kinds = analytic_clip.spread(block, analytic_clip.LIKELIER)
    clips = [analytic_clip.best_clip(steps, kind) for kind in kinds]
    return spreads * torch.tensor(clips, dtype=torch.float64)


CLIPS: dict[str, Rule] = {"kl": _least_divergence, "aciq": _analytic}


def _percentile_range(block: Tensor, percentile: float, symmetric: bool) -> tuple[Tensor, Tensor]:
    """(low, high) that hold `percentile` % of each row's non-zero weights."""
    share = percentile / 100
    nan = torch.tensor(float("nan"))
    if symmetric:
        high = _row_quantile(torch.where(block != 0, block.abs(), nan), share)
        return -high, high
    alive = torch.where(block != 0, block, nan)
    return _row_quantile(alive, (1 - share) / 2), _row_quantile(alive, (1 + share) / 2)


def _row_quantile(block: Tensor, share: float) -> Tensor:
    """Linear quantile of each row without its NaNs, float64; 0 for a row of NaNs.

    torch.quantile refuses more than 16 million elements, and NumPy's nanquantile loops over rows.
    """
    ordered = torch.from_numpy(np.sort(block.numpy(), axis=1))  # NaNs last
    last = (~ordered.isnan()).sum(1, keepdim=True) - 1
    place = last.clamp(min=0).double() * share  # in float32 a place among 100,000 is off by hundredths
    below = place.floor().long()
    above = torch.minimum(below + 1, last.clamp(min=0))
    left, right = ordered.gather(1, below).double(), ordered.gather(1, above).double()
    return torch.nan_to_num(left + (right - left) * (place - below), nan=0.0).flatten()
