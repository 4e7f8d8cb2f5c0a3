"""The index of a tensor too large to sort: a histogram over the upper 16 bits of its floats.

Sign, exponent and seven bits of the mantissa make 65,536 bins, each at most 1/128 of its values wide;
a bin keeps its count, its sum and the sum of its squares. It answers what `engine.tensor.index` asks, and
says how far the truth may lie from each answer. Inside a bin values are taken to be spread
with a density that is linear and has the bin's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.bins import chunks, gathered, rising, slopes, widths
from engine.tensor.index import Counts, Floats, GridAnswer, Index, Moments, Side, Wide
from engine.tensor.sorted_index import SortedIndex

EXACT = 1 << 24  # up to 16,777,216 weights the sorted index is kept: 75 MB


def index_of(tensors: Tensor | Sequence[Tensor], exact: int = EXACT) -> Index:
    """One index of a tensor, or of all of some together: sorted up to `exact` weights, a histogram above."""
    several = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if sum(t.numel() for t in several) > exact:
        return HistogramIndex(several)
    return SortedIndex(several)


class HistogramIndex(Index):
    """65,536 bins of one or several tensors, of which those that hold values are kept; at most 3 MB.

    Extremes, zeros, the number of weights and their sum of squares are exact. Within a bin an answer
    is interpolated, and `error_bound`, `sse_bound` and `counts_bound` bound what that may cost.
    Raises SlimscopeError for values that are not finite, and where there are none.

    >>> import torch
    >>> index = HistogramIndex([torch.tensor([3.0, -1.0, 2.0, 0.0])])
    >>> index.count_removed(1.5), index.error_bound(1.5)
    (2, (0, 0.0))
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        bins, zeros, ends = gathered(tensors)
        self.least, self.largest = ends
        lows, highs, parts = rising(bins, zeros)
        self._low, self._high, self._parts = lows.clip(*ends), highs.clip(*ends), parts
        self._counts = np.concatenate(([0], np.cumsum(parts.counts)))
        self._sums = np.concatenate(([0.0], np.cumsum(parts.sums)))
        self._squares = np.concatenate(([0.0], np.cumsum(parts.squares)))
        self._slope = slopes(self._low, self._high, parts)
        self.size = int(self._counts[-1])
        for array in self._arrays():
            array.flags.writeable = False

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        own = (self._low, self._high, self._counts, self._sums, self._squares, self._slope)
        return *own, self._parts.counts, self._parts.sums, self._parts.squares

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays())

    # ------------------------------------------------------------ cuts

    def _bin(self, cuts: Any, side: Side = "left") -> Any:
        """The first bin that does not lie below each cut as a whole, and has all its values below `side`."""
        return self._high.searchsorted(cuts, side)

    def _share(self, cuts: Any, own: Any) -> tuple[Wide, Wide, Wide]:
        """(place in the bin 0..1, its low end, its width) of cuts in the bins `own`; 1 beyond the last."""
        low, width = self._low[own].astype(np.float64), widths(self._low, self._high)[own]
        return np.clip((cuts - low) / np.where(width > 0, width, 1.0), 0.0, 1.0), low, width

    def place(self, cuts: Any, side: Side = "left") -> Any:
        at = self._bin(cuts, side)
        own = np.minimum(at, len(self._low) - 1)
        share = self._share(cuts, own)[0]
        part = self._parts.counts[own] * (share + self._slope[own] * share * (1 - share))
        return self._counts[at] + np.where(at > own, 0, np.rint(part)).astype(np.int64)

    def split(self, cuts: Floats) -> Moments:
        at = self._bin(cuts)
        own = np.minimum(at, len(self._low) - 1)
        _, sums, squares = (np.where(at > own, 0.0, each) for each in self._moments_below(cuts, own))
        return Moments(
            np.diff(self.place(cuts), prepend=0, append=self.size),
            np.diff(self._sums[at] + sums, prepend=0.0, append=self._sums[-1]),
            np.diff(self._squares[at] + squares, prepend=0.0, append=self._squares[-1]),
        )

    def _moments_below(self, cuts: Floats, own: Counts) -> tuple[Wide, Wide, Wide]:
        """What the bins `own` hold below cuts: number, not rounded, sum and sum of squares."""
        u, low, width = self._share(cuts, own)
        slope = self._slope[own]
        # Moments of the density 1 + slope (1 - 2 u) below u, in units of the bin.
        zeroth = u + slope * u * (1 - u)
        first = u**2 / 2 + slope * (u**2 / 2 - 2 * u**3 / 3)
        second = u**3 / 3 + slope * (u**3 / 3 - u**4 / 2)
        sums = low * zeroth + width * first
        squares = low**2 * zeroth + 2 * low * width * first + width**2 * second
        held = Moments(*(each[own] for each in (self._parts.counts, self._parts.sums, self._parts.squares)))
        return (
            held.counts * zeroth,
            np.clip(held.counts * sums, held.sums.clip(max=0), held.sums.clip(min=0)),
            np.minimum(held.counts * squares, held.squares),
        )

    def bins(self, most: int) -> Moments:
        """Bins, or neighbours together where there are more than `most`: equal shares of density^(1/3)."""
        weight = np.cbrt(self._parts.counts * np.maximum(widths(self._low, self._high), 0.0) ** 2)
        weight += weight.sum() / most / 2 + (self._high - self._low == 0)
        grown = np.cumsum(weight)
        group = np.minimum(grown * most / grown[-1], most - 1).astype(np.int64)
        if len(group) <= most:
            return self._parts
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        parts = self._parts
        return Moments(*(np.add.reduceat(p, starts) for p in (parts.counts, parts.sums, parts.squares)))

    # ------------------------------------------------------------ thresholds

    def threshold_for(self, sparsity: float) -> float:
        removed = round(sparsity * self.size)
        if not removed:
            return 0.0
        low, high = -1, int(np.float32(max(-self.least, self.largest)).view(np.int32))
        while high - low > 1:  # the bits of floats from zero on rise as the floats do
            middle = (low + high) // 2
            if self.count_removed(float(np.int32(middle).view(np.float32))) < removed:
                low = middle
            else:
                high = middle
        return float(np.int32(high).view(np.float32))

    def error_bound(self, threshold: float) -> tuple[int, float]:
        cut = np.float32(threshold)
        if cut < 0:
            return 0, 0.0
        cuts = np.array([-cut, np.nextafter(cut, np.float32(np.inf))])
        torn = np.unique(self._torn(cuts))
        return int(self._parts.counts[torn].sum()), float(self._parts.squares[torn].sum())

    def _torn(self, cuts: Floats) -> Counts:
        """The bins that have values on both sides of a cut, as far as their ends tell; rising cuts."""
        at: Counts = self._bin(cuts)
        at = at[at < len(self._low)]
        return at[self._low[at] < cuts[: len(at)]]

    # ------------------------------------------------------------ levels

    def _answer(self, cuts: Floats, levels: Wide) -> GridAnswer:
        low, guess, high = (float(each.sum()) for each in self._bin_errors(cuts, levels))
        return GridAnswer(
            guess,
            np.arange(len(levels)),
            np.diff(self.place(cuts), prepend=0, append=self.size),
            max(high - guess, guess - low),
            self._counts_bound(cuts),
        )

    def _counts_bound(self, cuts: Floats) -> int:
        """The most that a level's count may be off: what its two outermost bins hold where they are torn."""
        torn = np.bincount(self._torn(cuts), minlength=len(self._low)) > 0
        at = np.minimum(self._bin(cuts), len(self._low) - 1)
        held = np.where(torn[at], self._parts.counts[at], 0)
        same = np.concatenate(([False], at[1:] == at[:-1], [False]))
        both = np.concatenate(([0], held)) + np.concatenate((held, [0]))
        return int(np.where(same, both // 2, both).max(initial=0))

    def _bin_errors(self, cuts: Floats, levels: Wide) -> tuple[Wide, Wide, Wide]:
        """Each bin's squared error: the least that is possible, a guess, and the greatest.

        Exact for a bin that no cut tears. One that one cut tears is put as a whole on its mean's side; what
        its values beyond the cut would win is largest when all lie at the two ends (Edmundson and
        Madansky). Values of a bin torn by more cuts are at most as far from a level as it allows.
        """
        first, last = cuts.searchsorted(self._low, "right"), cuts.searchsorted(self._high, "right")
        own = cuts.searchsorted((self._parts.sums / self._parts.counts).astype(np.float32), "right")
        own = np.clip(own, first, last)
        whole = self._parts.errors(levels[own])
        low, guess, high = whole.copy(), whole.copy(), whole
        torn, once = np.flatnonzero(last > first), np.flatnonzero(last == first + 1)
        low[last > first + 1] = 0.0
        low[once] -= self._won(once, levels[own[once]], levels[(first + last - own)[once]])
        far = self._farthest(torn, first[torn], last[torn], levels)
        high[torn] = np.minimum(high[torn], far**2 * self._parts.counts[torn])
        gaps = (levels[last] - levels[first])[torn] / (last - first)[torn]
        guess[torn] = self._parts.counts[torn] * gaps**2 / 12
        guess[once] = self._torn_error(once, cuts[first[once]], levels[first[once]], levels[last[once]])
        low = np.clip(low, 0.0, high)
        return low, np.clip(guess, low, high), high

    def _torn_error(self, once: Counts, cuts: Floats, below: Wide, above: Wide) -> Wide:
        """Error of bins that one cut tears, by the model of their density."""
        counts, sums, squares = self._moments_below(cuts, once)
        part, whole = Moments(counts, sums, squares), self._parts
        rest = Moments(whole.counts[once] - counts, whole.sums[once] - sums, whole.squares[once] - squares)
        return part.errors(below) + rest.errors(above)

    def _won(self, once: Counts, own: Wide, other: Wide) -> Wide:
        """The most that values of torn bins may win by going to the other level."""
        low, high = self._low[once].astype(np.float64), self._high[once].astype(np.float64)
        mean, middle, up = self._parts.sums[once] / self._parts.counts[once], (own + other) / 2, other > own
        beyond = np.where(up, high - middle, middle - low)
        leaning = np.where(up, mean - low, high - mean)
        most = np.maximum(beyond, 0.0) * np.maximum(leaning, 0.0) / (high - low)
        won: Wide = 2 * np.abs(other - own) * self._parts.counts[once] * most
        return won

    def _farthest(self, torn: Counts, first: Counts, last: Counts, levels: Wide) -> Wide:
        """How far a value of each torn bin may be from its level."""
        ends = np.maximum(np.abs(self._low[torn] - levels[first]), np.abs(self._high[torn] - levels[last]))
        if not len(torn):
            return ends
        gaps = np.concatenate((np.diff(levels) / 2, [0.0]))
        spans = np.stack((first, last), axis=1).ravel()
        farthest: Wide = np.maximum(ends, np.maximum.reduceat(gaps, spans)[::2])
        return farthest


class RefinedIndex(HistogramIndex):
    """A coarse index that goes over its tensors once more for a threshold, which is then exact.

    >>> import torch
    >>> round(RefinedIndex([torch.tensor([1.0, -1.001, 1.002, 4.0])]).threshold_for(0.5), 6)
    1.001
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(tensors)
        self._tensors = tuple(tensors)

    def threshold_for(self, sparsity: float) -> float:
        near, removed = np.float32(super().threshold_for(sparsity)), round(sparsity * self.size)
        if not removed or not near:
            return 0.0
        bin_ = int(near.view(np.int32)) >> 16
        low, high = np.array([bin_ << 16, (bin_ << 16) | 0xFFFF], np.int32).view(np.float32)
        below = self.count_removed(np.nextafter(low, np.float32(0)))  # exact between bins
        inside = [size[(size >= low) & (size <= high)] for size in map(np.abs, chunks(self._tensors))]
        return float(np.partition(np.concatenate(inside), removed - below - 1)[removed - below - 1])
