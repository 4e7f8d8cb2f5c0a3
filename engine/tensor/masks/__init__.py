"""Masks: which weights stay. True is kept, False is removed (set to exactly zero).

By magnitude, or by any score (`engine.tensor.scores`) in any shape: single weights, N of M in a row, blocks,
kernels, filters or channels; inside each layer or over all. Weights that are zero already count as
removed. Nothing here knows of nets or of training.
"""

from engine.tensor.masks.allocation import ALLOCATIONS, by_allocation, erk, with_own_shares
from engine.tensor.masks.magnitude import (
    by_quality,
    by_sparsity,
    by_sparsity_over,
    by_threshold,
    counted,
    energy_kept,
    quality_threshold,
    summary,
)
from engine.tensor.masks.units import NORMS, UNITS, by_pattern, by_row, by_score, by_score_over, units

__all__ = [
    "ALLOCATIONS",
    "NORMS",
    "UNITS",
    "by_allocation",
    "by_pattern",
    "by_quality",
    "by_row",
    "by_score",
    "by_score_over",
    "by_sparsity",
    "by_sparsity_over",
    "by_threshold",
    "counted",
    "energy_kept",
    "erk",
    "quality_threshold",
    "summary",
    "units",
    "with_own_shares",
]
