"""How often each symbol of a stream occurs, and what follows: entropy, lengths of Huffman codes, gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.bits import BLOCK, Ints, blocks


@dataclass(frozen=True, eq=False)
class Counted:
    """Symbols (n,) as places in their sorted alphabet (k,), with how often each occurs (k,).

    They are rows of `columns` symbols each, one after the other.
    """

    alphabet: Ints
    places: NDArray[np.integer]
    counts: Ints
    columns: int = 1

    @property
    def span(self) -> int:
        """Whole numbers from the smallest to the largest symbol."""
        return int(self.alphabet[-1] - self.alphabet[0]) + 1 if len(self.alphabet) else 0


def counted(symbols: NDArray[np.integer], columns: int = 0) -> Counted:
    """Count a stream of integers: rows of `columns` symbols, one row without.

    >>> counted(np.array([7, 7, -1])).counts.tolist()
    [1, 2]
    """
    if len(symbols) == 0:
        nothing = np.zeros(0, np.int64)
        return Counted(nothing, nothing, nothing)
    columns = columns or len(symbols)
    low, high = int(symbols.min()), int(symbols.max())
    if high - low > max(1 << 16, 2 * len(symbols)):
        stream = symbols.astype(np.int64, copy=False)
        alphabet, places, counts = np.unique(stream, return_inverse=True, return_counts=True)
        return Counted(alphabet, places.reshape(-1), counts.astype(np.int64), columns)
    counts = np.zeros(high - low + 1, np.int64)
    shifted = np.empty(len(symbols), np.min_scalar_type(high - low))
    parts = [*blocks(len(symbols), max(BLOCK, len(counts)))]
    for part in parts:
        block = symbols[part].astype(np.int64) - low
        shifted[part] = block
        counts += np.bincount(block, minlength=len(counts))
    used = np.flatnonzero(counts)
    if len(used) < len(counts):
        order = np.cumsum(counts > 0) - 1
        for part in parts:
            shifted[part] = order[shifted[part]]
    return Counted(used + low, shifted, counts[used], columns)


def entropy_bits(counts: NDArray[np.integer]) -> float:
    """Order-0 entropy of a whole stream in bits: sum of c * log2(n / c) (Shannon 1948).

    >>> entropy_bits(np.array([2, 1, 1]))
    6.0
    """
    used = counts[counts > 0].astype(np.float64)
    return float((used * np.log2(used.sum() / used)).sum()) if used.size else 0.0


def huffman_lengths(counts: NDArray[np.integer]) -> Ints:
    """Length in bits of each symbol's Huffman code (Huffman 1952); a lone symbol takes 1 bit.

    Counts (k,) must be above 0. Two queues instead of a heap: sorted leaves, and merged nodes,
    which come out in order by themselves (van Leeuwen 1976).

    >>> huffman_lengths(np.array([5, 2, 1])).tolist()
    [1, 2, 2]
    """
    k = len(counts)
    if k <= 1:
        return np.ones(k, np.int64)
    order = np.argsort(counts, kind="stable")
    weight: list[int] = counts[order].tolist()
    parent = [0] * (2 * k - 1)
    leaf, node = 0, k
    for new in range(k, 2 * k - 1):
        total = 0
        for _ in range(2):
            if leaf < k and (node == new or weight[leaf] <= weight[node]):
                child, leaf = leaf, leaf + 1
            else:
                child, node = node, node + 1
            parent[child] = new
            total += weight[child]
        weight.append(total)
    depth = [0] * (2 * k - 1)
    for item in range(2 * k - 3, -1, -1):
        depth[item] = depth[parent[item]] + 1
    lengths = np.empty(k, np.int64)
    lengths[order] = depth[:k]
    return lengths


def gaps(positions: Ints) -> Ints:
    """How many places are skipped before each of the sorted positions: [2, 3, 7] -> [2, 0, 3]."""
    return np.diff(positions, prepend=-1) - 1
