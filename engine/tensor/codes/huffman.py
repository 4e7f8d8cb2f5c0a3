"""Huffman's code of a stream: the tree as it grows, canonical codes, and the stream as bits and back.

It is here to be looked at and compared: a code spends a whole bit on each symbol at least, so a file has it
only where Deep Compression's own coder is asked for.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.alphabet import by_steps, from_steps, read_table, table
from engine.tensor.codes.bits import CodeError, Ints, read_varints, varints
from engine.tensor.codes.counts import counted, huffman_lengths
from engine.tensor.compiled import compiled

LONGEST = 48  # bits of a code: 2^48 symbols would be needed for a longer one


@dataclass(frozen=True)
class Merge:
    """One step of growing the tree: two nodes become the children of a new one. Leaves count from 0."""

    left: int
    right: int
    count: int


def merges(counts: NDArray[np.integer]) -> list[Merge]:
    """The steps in which the tree of k leaves grows: the two nodes that are seldom most join first.

    Node k + i is made by step i. Of equal counts the older node goes first.

    >>> [(m.left, m.right, m.count) for m in merges(np.array([5, 2, 1]))]
    [(2, 1, 3), (3, 0, 8)]
    """
    queue = [(int(count), node) for node, count in enumerate(counts)]
    heapq.heapify(queue)
    found: list[Merge] = []
    while len(queue) > 1:
        (a, left), (b, right) = heapq.heappop(queue), heapq.heappop(queue)
        found.append(Merge(left, right, a + b))
        heapq.heappush(queue, (a + b, len(counts) + len(found) - 1))
    return found


def canonical(lengths: Ints) -> Ints:
    """The codes (k,) of these lengths, as numbers: shorter ones first, then in the alphabet's order.

    >>> [f"{code:0{n}b}" for code, n in zip(canonical(np.array([2, 1, 2])), [2, 1, 2])]
    ['10', '0', '11']
    """
    codes, code, before = np.zeros(len(lengths), np.int64), 0, 0
    for place in np.argsort(lengths, kind="stable"):
        code <<= int(lengths[place]) - before
        codes[place], before = code, int(lengths[place])
        code += 1
    return codes


def encode(symbols: NDArray[np.integer]) -> bytes:
    """Alphabet and code lengths, then the code of each symbol; `decode` reads it.

    >>> decode(encode(np.array([7, 7, -1])), 3).tolist()
    [7, 7, -1]
    """
    view = counted(symbols)
    if len(symbols) == 0:
        return b""
    lengths = huffman_lengths(view.counts)
    head = table(by_steps(view) + varints(lengths), 1)
    return head + np.packbits(as_bits(view.places, lengths)).tobytes()


def as_bits(places: NDArray[np.integer], lengths: Ints) -> NDArray[np.uint8]:
    """The bits, one a byte, of symbols given by their places in the alphabet."""
    codes = canonical(lengths)
    each = lengths[places]
    starts = np.concatenate([[0], np.cumsum(each)])
    bits = np.zeros(int(starts[-1]), np.uint8)
    for k in range(int(lengths.max())):
        there = each > k
        bits[starts[:-1][there] + k] = (codes[places][there] >> (each[there] - 1 - k)) & 1
    return bits


def decode(data: bytes, count: int) -> Ints:
    """The `count` symbols of a stream: (count,) int64. Raises CodeError for a damaged one."""
    if count == 0:
        return np.zeros(0, np.int64)
    low, size, listed, rest, payload = read_table(data)
    steps, offset = read_varints(rest, size - 1)
    lengths, offset = read_varints(rest, size, offset)
    if not listed or offset != len(rest) or not 1 <= int(lengths.min()) <= int(lengths.max()) <= LONGEST:
        raise CodeError("the code lengths of a Huffman stream do not fit its alphabet")
    if size > 1 and float((0.5**lengths).sum()) != 1.0:
        raise CodeError("the code lengths of a Huffman stream are of no whole tree")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    order, places = np.argsort(lengths, kind="stable"), np.zeros(count, np.int64)
    used = _walk(bits, np.bincount(lengths, minlength=LONGEST + 1), places)
    if used < 0 or len(payload) != (used + 7) // 8 or bits[used:].any():
        raise CodeError(f"a Huffman stream of {count} symbols is cut off or too long")
    symbols: Ints = from_steps(low, steps)[order[places]]
    return symbols


@compiled
def _walk(bits: NDArray[np.uint8], of_length: Ints, places: Ints) -> int:
    """Places of symbols in the order of their codes; how many bits that took, -1 where they end too early."""
    at = 0
    for i in range(len(places)):
        code, first, before = np.int64(0), np.int64(0), np.int64(0)
        for length in range(1, len(of_length)):
            if at >= len(bits):
                return -1
            code, at = 2 * code + np.int64(bits[at]), at + 1
            first = 2 * first
            if code - first < of_length[length]:
                places[i] = before + code - first
                break
            first += of_length[length]
            before += of_length[length]
        else:
            return -1
    return at
