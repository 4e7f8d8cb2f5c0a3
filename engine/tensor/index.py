"""What a slider asks of a tensor, without touching its weights again.

One sort and prefix sums of blocks answer how many weights a threshold removes, what a sparsity
costs, and what any uniform grid or table of levels does, in O(log n) or O(levels log n). Answers equal
those of `engine.tensor.masks` and `engine.tensor.grids`. Which layer of which net is asked is not known here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.affine import code_range, stored_affine
from engine.tensor.grids import FRACTIONS
from engine.types import SlimscopeError

BLOCK = 32  # values behind one pair of prefix sums: 16 bytes beside 128, so 1.125 times the weights
LEVEL_COST = 32  # one level asked of the sorted values takes as long as rounding this many of them,
ASK_COST = 8192  # and asking at all as long as rounding this many
TOGETHER = 1 << 16  # levels of several grids that are asked at once: 16 MB while it lasts

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Counts = NDArray[np.int64]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Parts:
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

    The true squared error lies within `sse_within` of `sse`, each true count within `counts_within`;
    both are zero where the index holds every value.
    """

    sse: float
    codes: Counts
    counts: Counts
    sse_within: float = 0.0
    counts_within: int = 0

    @property
    def entropy(self) -> float:
        """Bits per weight of an ideal code that knows these counts and no order."""
        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(share * np.log2(share)).sum()) + 0.0

    @property
    def coded_bits(self) -> float:
        """Modelled bits of all codes: entropy times weights; no table of counts, scale or header."""
        return self.entropy * int(self.counts.sum())


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
    """The questions; how the values are held is left to `TensorIndex` and `CoarseIndex`.

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
    def split(self, cuts: Floats) -> Parts:
        """The groups that k rising cuts make: (k + 1,)."""

    @abstractmethod
    def cells(self, most: int) -> Parts:
        """At most `most` groups for a search over borders; each value alone where there are no more."""

    @abstractmethod
    def threshold_for(self, sparsity: float) -> float:
        """The magnitude of the `round(sparsity * n)`-th smallest weight; 0 where none is removed.

        Ties at this value make `count_removed` of it larger than asked; `masks.by_sparsity` keeps
        as many of them as it must.
        """

    @abstractmethod
    def within(self, threshold: float) -> tuple[int, float]:
        """How far `count_removed` and `energy_removed` may lie from the truth."""

    @abstractmethod
    def _answer(self, cuts: Floats, levels: Wide) -> GridAnswer:
        """What becomes of values whose levels (k + 1,) change at the cuts (k,)."""

    def _grid_errors(
        self, scale: Floats, zero: NDArray[np.int32], bits: int, symmetric: bool
    ) -> tuple[Wide, Wide]:
        """(sse, sse_within) of several grids, scale and zero (grids, 1): (grids,) each."""
        cuts, levels = _steps(scale, zero, bits, symmetric)
        answers = [self._answer(*one) for one in zip(cuts, levels, strict=True)]
        return np.array([a.sse for a in answers]), np.array([a.sse_within for a in answers])

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
        cuts, levels = _steps(np.array([[scale]], np.float32), np.array([[zero]]), bits, symmetric)
        return replace(self._answer(cuts[0], levels[0]), codes=_codes(bits, symmetric))

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
        """What each clip costs: clip (1 %, 2 %, ... 100 % of the extremes), sse, sse_within.

        One symmetric bit has no range to clip, and every row the same error.
        """
        clips = np.arange(1, FRACTIONS + 1) / FRACTIONS
        scale, zero = self._affine(bits, symmetric, clips)
        few = max(TOGETHER >> bits, 1)
        found = [
            self._grid_errors(scale[i : i + few, None], zero[i : i + few, None], bits, symmetric)
            for i in range(0, FRACTIONS, few)
        ]
        sse, within = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return pd.DataFrame({"clip": clips, "sse": sse, "sse_within": within})

    def best_clip(self, bits: int, symmetric: bool) -> float:
        """The clip of least squared error among those of `clip_errors`; the larger one on a tie."""
        falling = self.clip_errors(bits, symmetric).to_numpy()[::-1]
        return float(falling[falling[:, 1].argmin(), 0])


class TensorIndex(Index):
    """The sorted index of a tensor: every answer exact; float32 inside, or searchsorted would convert it all.

    Raises SlimscopeError for values that are not finite, and where there are none.

    >>> index = TensorIndex(torch.tensor([3.0, -1.0, 2.0, 0.0]))
    >>> index.count_removed(1.0), index.threshold_for(0.75)
    (2, 2.0)
    """

    def __init__(self, values: Tensor) -> None:
        self.size = values.numel()
        padded = np.zeros((self.size // BLOCK + 1) * BLOCK, dtype=np.float32)
        self.values: Floats = padded[: self.size]
        self.values[:] = values.detach().flatten().to(torch.float32).numpy()
        self.values.sort()
        self.least, self.largest = ends_of(self.values[:1], self.values[-1:])
        self._blocks = padded.reshape(-1, BLOCK)
        self._sums, self._squares = _before_blocks(self._blocks)
        for array in (padded, self.values, self._blocks, self._sums, self._squares):
            array.flags.writeable = False

    @classmethod
    def over(cls, tensors: Sequence[Tensor]) -> TensorIndex:
        """One index of all tensors together: what a threshold over the whole model asks."""
        return cls(torch.cat([t.detach().flatten() for t in tensors]))

    @property
    def nbytes(self) -> int:
        return self._blocks.nbytes + self._sums.nbytes + self._squares.nbytes

    def place(self, cuts: Any, side: Side = "left") -> Any:
        return self.values.searchsorted(cuts, side)

    def split(self, cuts: Floats) -> Parts:
        places = self._places(cuts)
        rows, inside = self._partly(places)
        block = places // BLOCK
        sums = self._sums[block] + np.einsum("ij,ij->i", rows, inside, dtype=np.float64)
        squares = self._squares[block] + np.einsum("ij,ij,ij->i", rows, rows, inside, dtype=np.float64)
        return Parts(np.diff(places), np.diff(sums), np.diff(squares))

    def _places(self, cuts: Floats) -> Counts:
        return np.concatenate(([0], self.values.searchsorted(cuts), [self.size]))

    def _partly(self, places: Counts) -> tuple[Floats, NDArray[np.bool_]]:
        """The block that each place lies in, and which of its values come before the place: (k, BLOCK)."""
        return self._blocks[places // BLOCK], np.arange(BLOCK) < (places % BLOCK)[:, None]

    def cells(self, most: int) -> Parts:
        alone = self._distinct(most)
        if alone is None:
            return self.split(self.values[self._borders(most)])
        values, counts = self.values[alone].astype(np.float64), np.diff(alone, append=self.size)
        return Parts(counts, values * counts, values**2 * counts)

    def _borders(self, most: int) -> Counts:
        """Where cells begin, the first left out: dense where values are, yet wide tails get their own.

        A third of the borders share out the values, a third the range, and a third what the square
        error of many levels asks for: density to the power 1/3 (Panter and Dite 1951).
        """
        third = most // 3
        shared = np.arange(1, third) * self.size // third
        wide = np.linspace(self.least, self.largest, third + 1)[1:-1].astype(np.float32)
        rough = np.unique(np.concatenate((self.values[shared], wide)))
        ends = np.concatenate(([self.least], rough, [self.largest]))
        counts = np.diff(self._places(rough))
        grown = np.concatenate(([0.0], np.cumsum(np.cbrt(counts * np.diff(ends) ** 2))))
        fine = np.interp(np.linspace(0, grown[-1], third + 1)[1:-1], grown, ends).astype(np.float32)
        places = np.unique(self.values.searchsorted(np.concatenate((rough, fine))))
        return places[(places > 0) & (places < self.size)]

    def _distinct(self, most: int) -> Counts | None:
        """Where each different value begins, or None where there are more than `most`."""
        starts, at = [0], 0
        while (at := int(self.values.searchsorted(self.values[at], "right"))) < self.size:
            starts.append(at)
            if len(starts) > most:
                return None
        return np.array(starts)

    def threshold_for(self, sparsity: float) -> float:
        removed = round(sparsity * self.size)
        if not removed:
            return 0.0
        values, first = self.values, int(self.place(np.float32(0)))  # negative ones come before `first`

        def enough(negative: int) -> bool:
            return bool(-values[first - 1 - negative] >= values[first + removed - 1 - negative])

        # The smallest magnitudes are the last of the negative values and the first of the others.
        span = range(max(0, removed - (self.size - first)), min(removed, first))
        negative = span.start + bisect_left(span, True, key=enough)
        ends = [-values[first - negative]] if negative else []
        ends += [values[first + removed - negative - 1]] if removed > negative else []
        return float(max(ends)) + 0.0

    def within(self, threshold: float) -> tuple[int, float]:
        return 0, 0.0

    def _answer(self, cuts: Floats, levels: Wide) -> GridAnswer:
        if self._is_small(len(levels)):
            return self._directly(cuts.searchsorted(self.values, "right"), levels)
        error, counts = self._by_sums(cuts[None], levels[None])
        return GridAnswer(float(error[0]), np.arange(len(levels)), counts[0])

    def _by_sums(self, cuts: Floats, levels: Wide) -> tuple[Wide, Counts]:
        """(sse (grids,), counts (grids, k + 1)) of cuts (grids, k) and levels (grids, k + 1)."""
        places = self.values.searchsorted(cuts)
        rows, inside = self._partly(places.ravel())
        before = self._sums[places // BLOCK]
        before += np.einsum("ij,ij->i", rows, inside, dtype=np.float64).reshape(places.shape)
        counts: Counts = np.diff(_framed(places, self.size))
        totals = np.diff(_framed(before, self._sums[-1]))
        error = self._squares[-1] - 2 * (levels * totals).sum(1) + (levels**2 * counts).sum(1)
        return np.maximum(error, 0.0), counts

    def on_grid(self, scale: float, zero: int, bits: int, symmetric: bool) -> GridAnswer:
        codes = _codes(bits, symmetric)
        if not self._is_small(len(codes)) or _is_sign(bits, symmetric):
            return super().on_grid(scale, zero, bits, symmetric)
        step = np.float32(scale)
        return replace(
            self._directly(self._rounded(step, zero, codes), _levels(step, zero, codes)), codes=codes
        )

    def _grid_errors(
        self, scale: Floats, zero: NDArray[np.int32], bits: int, symmetric: bool
    ) -> tuple[Wide, Wide]:
        if self._is_small(1 << bits) and not _is_sign(bits, symmetric):
            codes, ends = _codes(bits, symmetric), zip(scale[:, 0], zero[:, 0], strict=True)
            errors = [self._directly(self._rounded(*e, codes), _levels(*e, codes)).sse for e in ends]
            return np.array(errors), np.zeros(len(errors))
        return self._by_sums(*_steps(scale, zero, bits, symmetric))[0], np.zeros(len(scale))

    def _is_small(self, levels: int) -> bool:
        """Whether rounding every value takes less time than asking the prefix sums."""
        return ASK_COST + LEVEL_COST * levels > self.size

    def _rounded(self, step: np.float32, zero: int, codes: Counts) -> Counts:
        own: Wide = np.clip(np.rint(self.values / step) + zero, codes[0], codes[-1]) - codes[0]
        return own.astype(np.int64)

    def _directly(self, own: Counts, levels: Wide) -> GridAnswer:
        """From the place in `levels` that each sorted value has."""
        error = float(np.square(self.values - levels[own]).sum())
        return GridAnswer(error, np.arange(len(levels)), np.bincount(own, minlength=len(levels)))


def _framed(rows: NDArray[Any], last: Any) -> NDArray[Any]:
    """Rows with 0 in front and `last` behind: (n, k) -> (n, k + 2)."""
    framed = np.zeros((len(rows), rows.shape[1] + 2), dtype=rows.dtype)
    framed[:, 1:-1], framed[:, -1] = rows, last
    return framed


def ends_of(low: Floats, high: Floats) -> tuple[float, float]:
    """Smallest of `low` and largest of `high`; SlimscopeError where there are none or one is not finite."""
    if not len(low):
        raise SlimscopeError("the tensor is empty: an index needs at least one value")
    ends = float(low.min()), float(high.max())
    if not np.isfinite(ends).all():
        raise SlimscopeError("the tensor holds values that are NaN or infinite: an index needs finite ones")
    return ends


def _before_blocks(blocks: Floats, chunk: int = 1 << 15) -> tuple[Wide, Wide]:
    """Sums, and sums of squares, of all values before each block; padding is zero: (blocks,) each.

    The last entry of either is that of all whole blocks and of the rest, for no place lies behind it.
    """
    sums, squares, ones = np.zeros(len(blocks) + 1), np.zeros(len(blocks) + 1), np.ones(BLOCK)
    for start in range(0, len(blocks), chunk):
        wide = blocks[start : start + chunk].astype(np.float64)
        here = slice(start + 1, start + 1 + len(wide))
        np.dot(wide, ones, out=sums[here])
        np.dot(np.square(wide, out=wide), ones, out=squares[here])
    return np.cumsum(sums, out=sums), np.cumsum(squares, out=squares)


# ---------------------------------------------------------------- uniform grids


def _is_sign(bits: int, symmetric: bool) -> bool:
    return symmetric and bits == 1


def _codes(bits: int, symmetric: bool) -> Counts:
    bottom, top = code_range(bits, symmetric)
    return np.arange(bottom, top + 1)


def _levels(step: Any, zero: Any, codes: Counts) -> Wide:
    """What codes decode to, rounded to float32 as `Grid.decode` does."""
    levels: Wide = ((codes - zero).astype(np.float32) * step).astype(np.float64)
    return levels


def _steps(
    scale: Floats, zero: NDArray[np.int32] | Counts, bits: int, symmetric: bool
) -> tuple[Floats, Wide]:
    """(cuts (grids, k), levels (grids, k + 1)) of grids with scale and zero (grids, 1)."""
    codes = _codes(bits, symmetric)
    levels = _levels(scale, zero, codes)
    if _is_sign(bits, symmetric):
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
