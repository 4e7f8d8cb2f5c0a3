"""Masks by magnitude, for a share or a threshold, and what a mask leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.tensor.grids import sum_of_squares


def by_sparsity(values: Tensor, sparsity: float) -> Tensor:
    """Keep all but the `round(sparsity * n)` weights of smallest magnitude.

    Among equal magnitudes the first in memory order are removed, so that the count is exact
    and the mask is the same on every run. Zeros are removed even beyond that count.

    >>> by_sparsity(torch.tensor([3.0, -1.0, 2.0, 1.0]), 0.25).tolist()
    [True, False, True, True]
    """
    return by_sparsity_over([values], sparsity)[0]


def by_sparsity_over(tensors: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """As `by_sparsity`, with the weights of all tensors competing in one ranking.

    Ties go to the earlier tensor first. Masks have the shapes of their tensors.
    """
    if not tensors:
        return []
    magnitude = torch.cat([t.detach().abs().flatten() for t in tensors])
    kept = largest(magnitude, round(sparsity * len(magnitude)))
    parts = torch.split(kept, [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def largest(scores: Tensor, removed: int, floor: float = 0.0) -> Tensor:
    """Mask over flat scores without the `removed` smallest; partition is O(n), sorting is not.

    Nothing at `floor` stays: that is the score of what is zero already.
    """
    if removed == 0:
        return scores > floor
    cut = float(np.partition(scores.numpy(), removed - 1)[removed - 1])
    kept = scores > cut
    surplus = int((~kept).sum()) - removed  # ties at the cut that may stay
    if surplus > 0 and cut > floor:
        ties = (scores == cut).nonzero().flatten()
        kept[ties[len(ties) - surplus :]] = True
    return kept


def by_threshold(values: Tensor, threshold: float) -> Tensor:
    """Keep weights with |w| > threshold: a weight that equals the threshold is removed.

    >>> by_threshold(torch.tensor([0.5, -0.25, 0.1]), 0.25).tolist()
    [True, False, False]
    """
    return values.detach().abs() > threshold


def quality_threshold(values: Tensor, quality: float) -> float:
    """Han's threshold: quality times the standard deviation of all the layer's weights (Han 2015).

    The deviation is the population's, over every weight, zeros of earlier pruning included.
    For Gaussian weights with mean zero the share removed is erf(quality / sqrt(2)).

    >>> quality_threshold(torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.5)
    0.5
    """
    return quality * float(values.detach().double().std(correction=0))


def by_quality(values: Tensor, quality: float) -> Tensor:
    """Keep weights above Han's threshold for this layer."""
    return by_threshold(values, quality_threshold(values, quality))


def energy_kept(values: Tensor, kept: Tensor) -> float:
    """Share of the sum of squares that the kept weights hold, 0..1; 1 where all weights are zero."""
    total = sum_of_squares(values)
    return sum_of_squares(values * kept) / total if total > 0 else 1.0


def counted(kept: Tensor) -> dict[str, Any]:
    """What a mask leaves of a layer: weights, kept, removed, sparsity."""
    weights, survivors = kept.numel(), int(kept.count_nonzero())
    removed = weights - survivors
    return {"weights": weights, "kept": survivors, "removed": removed, "sparsity": removed / weights}


def summary(values: Tensor, kept: Tensor) -> dict[str, Any]:
    """What a mask does to a layer: weights, kept, removed, sparsity, threshold, energy_kept.

    `threshold` is the largest magnitude that was removed: 0 where only zeros were.
    """
    return {
        **counted(kept),
        "threshold": max(abs(float(end)) for end in values.masked_fill(kept, 0.0).aminmax()),
        "energy_kept": energy_kept(values, kept),
    }
