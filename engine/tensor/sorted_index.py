"""The exact index of a tensor: its values sorted, and prefix sums of blocks of them.

A threshold is answered in O(log n), a grid or a table of levels in O(levels log n).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor.index import (
    Counts,
    Floats,
    GridAnswer,
    Index,
    Moments,
    Side,
    Wide,
    ends_of,
    grid_codes,
    grid_levels,
    grid_steps,
    is_sign,
)

BLOCK = 32  # values behind one pair of prefix sums: 16 bytes beside 128, so 1.125 times the weights
LEVEL_COST = 32  # one level asked of the sorted values takes as long as rounding this many of them,
ASK_COST = 8192  # and asking at all as long as rounding this many


class SortedIndex(Index):
    """The sorted index of a tensor, or of several together: every answer exact.

    It is float32 inside, or searchsorted would convert it all.

    Raises SlimscopeError for values that are not finite, and where there are none.

    >>> index = SortedIndex(torch.tensor([3.0, -1.0, 2.0, 0.0]))
    >>> index.count_removed(1.0), index.threshold_for(0.75)
    (2, 2.0)
    """

    def __init__(self, values: Tensor | Sequence[Tensor]) -> None:
        parts = [values] if isinstance(values, Tensor) else values
        self.size = sum(part.numel() for part in parts)
        padded = np.zeros((self.size // BLOCK + 1) * BLOCK, dtype=np.float32)
        self.values: Floats = padded[: self.size]
        starts = np.cumsum([part.numel() for part in parts])[:-1]
        for place, part in zip(np.split(self.values, starts), parts, strict=True):  # no copy of all beside it
            place[:] = part.detach().flatten().to(torch.float32).numpy()
        self.values.sort()
        self.least, self.largest = ends_of(self.values[:1], self.values[-1:])
        self._blocks = padded.reshape(-1, BLOCK)
        self._sums, self._squares = _before_blocks(self._blocks)
        for array in (padded, self.values, self._blocks, self._sums, self._squares):
            array.flags.writeable = False

    @property
    def nbytes(self) -> int:
        return self._blocks.nbytes + self._sums.nbytes + self._squares.nbytes

    def place(self, cuts: Any, side: Side = "left") -> Any:
        return self.values.searchsorted(cuts, side)

    def split(self, cuts: Floats) -> Moments:
        places = self._places(cuts)
        rows, inside = self._partly(places)
        block = places // BLOCK
        sums = self._sums[block] + np.einsum("ij,ij->i", rows, inside, dtype=np.float64)
        squares = self._squares[block] + np.einsum("ij,ij,ij->i", rows, rows, inside, dtype=np.float64)
        return Moments(np.diff(places), np.diff(sums), np.diff(squares))

    def _places(self, cuts: Floats) -> Counts:
        return np.concatenate(([0], self.values.searchsorted(cuts), [self.size]))

    def _partly(self, places: Counts) -> tuple[Floats, NDArray[np.bool_]]:
        """The block that each place lies in, and which of its values come before the place: (k, BLOCK)."""
        return self._blocks[places // BLOCK], np.arange(BLOCK) < (places % BLOCK)[:, None]

    def bins(self, most: int) -> Moments:
        alone = self._distinct(most)
        if alone is None:
            return self.split(self.values[self._borders(most)])
        values, counts = self.values[alone].astype(np.float64), np.diff(alone, append=self.size)
        return Moments(counts, values * counts, values**2 * counts)

    def _borders(self, most: int) -> Counts:
        """Where bins begin, the first left out: dense where values are, yet wide tails get their own.

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

    def error_bound(self, threshold: float) -> tuple[int, float]:
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
        codes = grid_codes(bits, symmetric)
        if not self._is_small(len(codes)) or is_sign(bits, symmetric):
            return super().on_grid(scale, zero, bits, symmetric)
        step = np.float32(scale)
        return replace(
            self._directly(self._rounded(step, zero, codes), grid_levels(step, zero, codes)), codes=codes
        )

    def _grid_errors(
        self, scale: Floats, zero: NDArray[np.int32], bits: int, symmetric: bool
    ) -> tuple[Wide, Wide]:
        if self._is_small(1 << bits) and not is_sign(bits, symmetric):
            codes, ends = grid_codes(bits, symmetric), zip(scale[:, 0], zero[:, 0], strict=True)
            errors = [self._directly(self._rounded(*e, codes), grid_levels(*e, codes)).sse for e in ends]
            return np.array(errors), np.zeros(len(errors))
        return self._by_sums(*grid_steps(scale, zero, bits, symmetric))[0], np.zeros(len(scale))

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


def _before_blocks(blocks: Floats, chunk: int = 1 << 12) -> tuple[Wide, Wide]:
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
