"""Coder `relative`, Deep Compression's own (Han 2016): distances with fillers, and values, in Huffman's code.

The most frequent symbol is skipped. An entry is the distance from the one before and a symbol; a distance
that its bits cannot say is bridged by fillers, entries of the most frequent symbol. It is there to be
compared: no file has it unless it is asked for.
"""

from __future__ import annotations

import numpy as np

from engine.tensor.codes import huffman
from engine.tensor.codes.bits import CodeError, Ints, read_varints, unzigzag, varints, zigzag
from engine.tensor.codes.coder import Coder, Option
from engine.tensor.codes.counts import Counted

WIDTHS = range(2, 13)  # bits of a distance; the best is taken (the paper: 8 in convolutions, 5 in matrices)


def options(view: Counted) -> list[Option]:
    return [(0.0, "relative", lambda: _encode(view))] if len(view.alphabet) > 1 else []


def _encode(view: Counted) -> bytes:
    background = int(view.counts.argmax())
    at = np.flatnonzero(view.places != background)
    away, values = np.diff(at, prepend=-1), view.alphabet[view.places[at]]
    empty = int(view.alphabet[background])
    return min((_entries(away, values, empty, bits) for bits in WIDTHS), key=len)


def bridged(away: Ints, values: Ints, filler: int, bits: int) -> tuple[Ints, Ints]:
    """Distances (n,) from 1 to 2^bits and values (n,), `filler` where a distance is cut in pieces.

    >>> [part.tolist() for part in bridged(np.array([2, 6]), np.array([7, 9]), 0, 2)]
    [[2, 4, 2], [7, 0, 9]]
    """
    most = 1 << bits
    bridges = (away - 1) // most
    distances = np.full(len(away) + int(bridges.sum()), most, np.int64)
    found = np.full(len(distances), filler, np.int64)
    ends = np.arange(len(away)) + np.cumsum(bridges)
    distances[ends], found[ends] = away - bridges * most, values
    return distances, found


def _entries(away: Ints, values: Ints, background: int, bits: int) -> bytes:
    distances, symbols = bridged(away, values, background, bits)
    coded = huffman.encode(distances)
    head = varints([zigzag(background), len(distances), len(coded)])
    return head + coded + huffman.encode(symbols)


def decode(data: bytes, count: int) -> Ints:
    (background, entries, length), offset = read_varints(data, 3)
    if entries > count or length > len(data) - offset:
        raise CodeError(f"{entries} entries do not fit into a stream of {count} symbols")
    end = offset + int(length)
    distances = huffman.decode(data[offset:end], int(entries))
    values = huffman.decode(data[end:], int(entries))
    if entries and not 1 <= int(distances.min()) <= int(distances.max()) <= count:
        raise CodeError("a distance is longer than its stream")
    at = np.cumsum(distances) - 1
    if entries and int(at[-1]) >= count:
        raise CodeError("the distances of a stream are longer than it is")
    symbols = np.full(count, unzigzag(int(background)), np.int64)
    symbols[at] = values
    return symbols


RELATIVE = Coder("relative", options, decode, is_offered=False)
