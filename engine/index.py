"""What a slider asks of a tensor, without touching its weights again.

One sort of the values and one of their magnitudes, with prefix sums in float64, answer how many
weights a threshold removes, what a sparsity costs and what any uniform grid does, in
O(log n) or O(levels log n). All answers equal those of `engine.masks` and `engine.grids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.grids import ordered_error, prefix_sums
from engine.surgery import code_range

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GridAnswer:
    """What a grid does to the indexed values: `codes` and how many weights (`counts`) have each."""

    sse: float
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def entropy(self) -> float:
        """Bits per weight of an ideal code that knows these counts and no order."""
        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(share * np.log2(share)).sum()) + 0.0


class TensorIndex:
    """The sorted index of a tensor; float32 inside, or searchsorted would convert the whole array.

    >>> index = TensorIndex(torch.tensor([3.0, -1.0, 2.0, 0.0]))
    >>> index.count_removed(1.0), index.threshold_for(0.75)
    (2, 2.0)
    """

    def __init__(self, values: Tensor) -> None:
        flat = values.detach().to(torch.float32).flatten().numpy()
        self.values: Floats = np.sort(flat)
        self.magnitudes: Floats = np.sort(np.abs(flat))
        wide = self.magnitudes.astype(np.float64)
        self.energies = np.concatenate(([0.0], np.cumsum(wide * wide)))  # of the smallest 0..n
        self.sums = prefix_sums(self.values)
        for array in (self.values, self.magnitudes, self.energies, self.sums):
            array.flags.writeable = False

    @classmethod
    def over(cls, tensors: Sequence[Tensor]) -> TensorIndex:
        """One index of all tensors together: what a threshold over the whole model asks."""
        return cls(torch.cat([t.detach().flatten() for t in tensors]))

    def __len__(self) -> int:
        return len(self.values)

    def count_removed(self, threshold: float) -> int:
        """How many weights have |w| <= threshold."""
        return int(np.searchsorted(self.magnitudes, np.float32(threshold), side="right"))

    def threshold_for(self, sparsity: float) -> float:
        """The magnitude of the `round(sparsity * n)`-th smallest weight; 0 where none is removed.

        Ties at this value make `count_removed` of it larger than asked; `masks.by_sparsity` keeps
        as many of them as it must.
        """
        removed = round(sparsity * len(self))
        return float(self.magnitudes[removed - 1]) if removed else 0.0

    def energy_removed(self, threshold: float) -> float:
        """Sum of squares of the weights with |w| <= threshold."""
        return float(self.energies[self.count_removed(threshold)])

    def histogram(self, bins: int, threshold: float | None = None) -> pd.DataFrame:
        """Counts in `bins` equal bins between the extremes: low, high, weights, removed.

        The edges do not move with `threshold`; `removed` counts |w| <= threshold (0 without one).
        Each bin holds its low edge, and the last one its high edge too.
        """
        low, high = float(self.values[0]), float(self.values[-1])
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1).astype(np.float32)
        places = np.searchsorted(self.values, edges)
        places[0], places[-1] = 0, len(self)
        removed = np.zeros(bins, dtype=np.int64)
        if threshold is not None:
            cut = np.float32(threshold)
            first = np.searchsorted(self.values, -cut)
            last = np.searchsorted(self.values, cut, side="right")
            removed = np.diff(places.clip(first, max(first, last)))
        return pd.DataFrame(
            {"low": edges[:-1], "high": edges[1:], "weights": np.diff(places), "removed": removed}
        )

    def on_grid(self, scale: float, zero: int, bits: int, symmetric: bool) -> GridAnswer:
        """Squared error and code counts on one uniform grid, equal to rounding every weight.

        O(2^bits log n), or O(n) where the grid has more levels than there are weights.
        """
        step = np.float32(scale)
        bottom, top = code_range(bits, symmetric)
        codes = np.arange(bottom, top + 1)
        levels = ((codes - zero).astype(np.float32) * step).astype(np.float64)
        if symmetric and bits == 1:
            cuts = np.array([0.0, np.nextafter(np.float32(0), np.float32(1))], dtype=np.float32)
        elif len(codes) > len(self):
            return self._directly(step, zero, codes, levels)
        else:
            cuts = _boundaries(codes[1:] - zero, step)
        error, counts = ordered_error(self.values, self.sums, float(self.energies[-1]), cuts, levels)
        return GridAnswer(float(error), codes, counts)

    def _directly(self, step: np.float32, zero: int, codes: NDArray[Any], levels: NDArray[Any]) -> GridAnswer:
        own = np.clip(np.rint(self.values / step) + zero, codes[0], codes[-1]).astype(np.int64) - codes[0]
        error = float(np.square(self.values - levels[own]).sum())
        return GridAnswer(error, codes, np.bincount(own, minlength=len(codes)))


def _boundaries(codes: NDArray[Any], step: np.float32) -> Floats:
    """For each code the smallest float32 that rounds to it or higher.

    (code - 1/2) * step is right up to the last bits: ties go to even, and the quotient is itself
    rounded. So the neighbours within three units in the last place are tried.
    """
    middle = ((codes - 0.5) * float(step)).astype(np.float32)
    tried = [middle]
    for toward in (-np.inf, np.inf):
        near = middle
        for _ in range(3):
            near = np.nextafter(near, np.float32(toward))
            tried.append(near)
    ordered = np.sort(np.stack(tried), axis=0)  # (7, codes), rising
    reached = np.rint(ordered / step) >= codes
    first: Floats = np.take_along_axis(ordered, reached.argmax(0)[None], axis=0)[0]
    return first
