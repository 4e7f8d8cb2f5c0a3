"""What a slider asks of a tensor, without touching its weights again.

How many weights a threshold removes, what a sparsity costs, and what any uniform grid or table of levels
does. Answers equal those of `engine.tensor.masks` and `engine.tensor.grids`. Which layer of which
net is asked is not known here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.affine import code_range, stored_affine
from engine.tensor.calibrate import FRACTIONS
from engine.types import SlimscopeError

TOGETHER = 1 << 16  # levels of several grids that are asked at once: 16 MB while it lasts

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Counts = NDArray[np.int64]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Moments:
    """Neighbouring values in groups, from low to high: how many, their sum, and that of their squares."""

    counts: NDArray[Any]  # whole numbers but inside a model
    sums: Wide
    squares: Wide

    def errors(self, levels: Wide) -> Wide:
        """Squared error of each group at its level l: n l^2 - 2 l S + Q for n values with sums S and Q."""
        found: Wide = self.squares - 2 * levels * self.sums + levels**2 * self.counts
        return found.clip(min=0.0)


@dataclass(frozen=True)
class GridAnswer:
    """What a grid or table does to the indexed values: how many weights (`counts`) have each of `codes`.

    The true squared error lies within `sse_bound` of `sse`, each true count within `counts_bound`;
    both are zero where the index holds every value.
    """

    sse: float
    codes: Counts
    counts: Counts
    sse_bound: float = 0.0
    counts_bound: int = 0

    @property
    def entropy(self) -> float:
        """Bits per weight of an ideal code that knows these counts and no order."""
        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(share * np.log2(share)).sum()) + 0.0


def cuts_between(levels: Wide) -> Floats:
    """Where rising levels (k,) part, (k - 1,) float32: from there on a value is nearer to the next."""
    low, high = levels[:-1], levels[1:]
    whole = low + high
    grown = whole - low
    rest = (low - (whole - grown)) + (high - grown)  # what rounding the sum lost (Knuth's two-sum)
    near = (whole / 2).astype(np.float32)
    beyond = 2 * near.astype(np.float64) - whole
    above: Floats = np.where(
        (beyond > 0) | ((beyond == 0) & (rest < 0)), near, np.nextafter(near, np.float32(np.inf))
    )
    return above


class Index(ABC):
    """The questions; how the values are held is left to `SortedIndex` and `HistogramIndex`.

    A cut is a float32; values from it on lie above it. `least` and `largest` are the extremes.
    """

    size: int
    least: float
    largest: float

    def __len__(self) -> int:
        return self.size

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory of the index in bytes."""

    @abstractmethod
    def place(self, cuts: Any, side: Side = "left") -> Any:
        """How many values lie below each cut; with `right`, at it or below."""

    @abstractmethod
    def split(self, cuts: Floats) -> Moments:
        """The groups that k rising cuts make: (k + 1,)."""

    @abstractmethod
    def bins(self, most: int) -> Moments:
        """At most `most` groups for a search over borders; each value alone where there are no more."""

    @abstractmethod
    def threshold_for(self, sparsity: float) -> float:
        """The magnitude of the `round(sparsity * n)`-th smallest weight; 0 where none is removed.

        Ties at this value make `count_removed` of it larger than asked; `masks.by_sparsity` keeps
        as many of them as it must.
        """

    @abstractmethod
    def error_bound(self, threshold: float) -> tuple[int, float]:
        """How far `count_removed` and `energy_removed` may lie from the truth."""

    @abstractmethod
    def _answer(self, cuts: Floats, levels: Wide) -> GridAnswer:
        """What becomes of values whose levels (k + 1,) change at the cuts (k,)."""

    def _grid_errors(
        self, scale: Floats, zero: NDArray[np.int32], bits: int, symmetric: bool
    ) -> tuple[Wide, Wide]:
        """(sse, sse_bound) of several grids, scale and zero (grids, 1): (grids,) each."""
        cuts, levels = grid_steps(scale, zero, bits, symmetric)
        answers = [self._answer(*one) for one in zip(cuts, levels, strict=True)]
        return np.array([a.sse for a in answers]), np.array([a.sse_bound for a in answers])

    # ------------------------------------------------------------ thresholds

    def count_removed(self, threshold: float) -> int:
        """How many weights have |w| <= threshold."""
        cut = np.float32(threshold)
        return max(int(self.place(cut, "right")) - int(self.place(-cut)), 0)

    def energy_removed(self, threshold: float) -> float:
        """Sum of squares of the weights with |w| <= threshold."""
        cut = np.float32(threshold)
        if cut < 0:
            return 0.0
        return float(self.split(np.array([-cut, np.nextafter(cut, np.float32(np.inf))])).squares[1])

    def histogram(self, bins: int, threshold: float | None = None) -> pd.DataFrame:
        """Counts in `bins` equal bins between the extremes: low, high, weights, removed.

        The edges do not move with `threshold`; `removed` counts |w| <= threshold (0 without one).
        Each bin holds its low edge, and the last one its high edge too.
        """
        low, high = self.least, self.largest
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1).astype(np.float32)
        places = self.place(edges)
        places[0], places[-1] = 0, len(self)
        removed = np.zeros(bins, dtype=np.int64)
        if threshold is not None:
            cut = np.float32(threshold)
            first, last = int(self.place(-cut)), int(self.place(cut, "right"))
            removed = np.diff(places.clip(first, max(first, last)))
        return pd.DataFrame(
            {"low": edges[:-1], "high": edges[1:], "weights": np.diff(places), "removed": removed}
        )

    # ------------------------------------------------------------ grids and tables

    def affine(self, bits: int, symmetric: bool, clip: float = 1.0) -> tuple[float, int]:
        """(scale, zero) of the grid over `clip` times the extremes, as `grids.quantize` would store it.

        One symmetric bit has no range to clip: its scale is the mean magnitude of the non-zero weights.
        """
        scale, zero = self._affine(bits, symmetric, np.array([clip]))
        return float(scale[0]), int(zero[0])

    def _affine(self, bits: int, symmetric: bool, clips: Wide) -> tuple[Floats, NDArray[np.int32]]:
        if symmetric and bits == 1:
            below, _, above = self.split(_around_zero()).sums
            alive = len(self) - self.count_removed(0.0)
            mean = np.float32((above - below) / alive) if alive else np.float32(1)
            return np.full(len(clips), mean), np.zeros(len(clips), np.int32)
        low, high = (torch.from_numpy(clips * end) for end in (self.least, self.largest))
        scale, zero = stored_affine(low, high, bits, symmetric)
        return scale.numpy(), zero.numpy()

    def on_grid(self, scale: float, zero: int, bits: int, symmetric: bool) -> GridAnswer:
        """Squared error and code counts on one uniform grid, equal to rounding every weight.

        O(2^bits log n), or O(n) where that is the cheaper way.
        """
        cuts, levels = grid_steps(np.array([[scale]], np.float32), np.array([[zero]]), bits, symmetric)
        return replace(self._answer(cuts[0], levels[0]), codes=grid_codes(bits, symmetric))

    def on_table(self, table: Tensor) -> GridAnswer:
        """As `on_grid`, with each value at the nearest entry of a rising table (k,), k-means' assignment.

        Codes count the entries from 0; a value in the middle goes to the lower one.
        Raises SlimscopeError for a table that does not rise.
        """
        levels = table.detach().double().numpy()
        if levels.ndim != 1 or not len(levels) or (np.diff(levels) < 0).any():
            raise SlimscopeError(f"the table {levels[:4].tolist()}... does not rise: sort it")
        return self._answer(cuts_between(levels), levels)

    def clip_errors(self, bits: int, symmetric: bool) -> pd.DataFrame:
        """What each clip costs: clip (1 %, 2 %, ... 100 % of the extremes), sse, sse_bound.

        One symmetric bit has no range to clip, and every row the same error.
        """
        clips = np.arange(1, FRACTIONS + 1) / FRACTIONS
        scale, zero = self._affine(bits, symmetric, clips)
        few = max(TOGETHER >> bits, 1)
        found = [
            self._grid_errors(scale[i : i + few, None], zero[i : i + few, None], bits, symmetric)
            for i in range(0, FRACTIONS, few)
        ]
        sse, error_bound = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return pd.DataFrame({"clip": clips, "sse": sse, "sse_bound": error_bound})

    def clipped_errors(self, bits: int, symmetric: bool) -> Wide:
        """What of each `sse` of `clip_errors` comes from values beyond the outermost levels: (FRACTIONS,)."""
        scale, zero = self._affine(bits, symmetric, np.arange(1, FRACTIONS + 1) / FRACTIONS)
        ends = grid_levels(scale[:, None], zero[:, None], grid_codes(bits, symmetric)[[0, -1]])
        return np.array([self.beyond(low, high) for low, high in ends])

    def beyond(self, low: float, high: float) -> float:
        """Squared error of the values below `low` at `low`, and of those above `high` at `high`."""
        cuts = np.array([low, np.nextafter(np.float32(high), np.float32(np.inf))], np.float32)
        return float(self.split(cuts).errors(np.array([low, 0.0, high]))[[0, 2]].sum())

    def best_clip(self, bits: int, symmetric: bool) -> float:
        """The clip of least squared error among those of `clip_errors`; the larger one on a tie."""
        falling = self.clip_errors(bits, symmetric).to_numpy()[::-1]
        return float(falling[falling[:, 1].argmin(), 0])


def ends_of(low: Floats, high: Floats) -> tuple[float, float]:
    """Smallest of `low` and largest of `high`; SlimscopeError where there are none or one is not finite."""
    if not len(low):
        raise SlimscopeError("the tensor is empty: an index needs at least one value")
    ends = float(low.min()), float(high.max())
    if not np.isfinite(ends).all():
        raise SlimscopeError("the tensor holds values that are NaN or infinite: an index needs finite ones")
    return ends


# ---------------------------------------------------------------- uniform grids


def is_sign(bits: int, symmetric: bool) -> bool:
    return symmetric and bits == 1


def grid_codes(bits: int, symmetric: bool) -> Counts:
    bottom, top = code_range(bits, symmetric)
    return np.arange(bottom, top + 1)


def grid_levels(step: Any, zero: Any, codes: Counts) -> Wide:
    """What codes decode to, rounded to float32 as `AffineGrid.decode` does."""
    levels: Wide = ((codes - zero).astype(np.float32) * step).astype(np.float64)
    return levels


def grid_steps(
    scale: Floats, zero: NDArray[np.int32] | Counts, bits: int, symmetric: bool
) -> tuple[Floats, Wide]:
    """(cuts (grids, k), levels (grids, k + 1)) of grids with scale and zero (grids, 1)."""
    codes = grid_codes(bits, symmetric)
    levels = grid_levels(scale, zero, codes)
    if is_sign(bits, symmetric):
        return np.broadcast_to(_around_zero(), (len(scale), 2)), levels
    return _boundaries(codes[1:] - zero, scale), levels


def _around_zero() -> Floats:
    """The cuts of sign(w): negative, zero, positive."""
    return np.array([0.0, np.nextafter(np.float32(0), np.float32(1))], dtype=np.float32)


def _boundaries(codes: NDArray[Any], step: Floats) -> Floats:
    """For each code (grids, k) the smallest float32 that rounds to it or higher, at steps (grids, 1).

    (code - 1/2) * step is right up to the last bits: ties go to even, and the quotient is itself
    rounded. So from three units in the last place below, the neighbours are tried in turn.
    """
    first: Floats = ((codes - 0.5) * step.astype(np.float64)).astype(np.float32)
    for _ in range(3):
        first = np.nextafter(first, np.float32(-np.inf))
    for _ in range(6):
        short = np.rint(first / step) < codes
        first = np.where(short, np.nextafter(first, np.float32(np.inf)), first)
    return first
