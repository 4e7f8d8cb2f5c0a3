"""Coder `packed`: every symbol at the fixed width of its alphabet."""

from __future__ import annotations

import numpy as np

from engine.tensor.codes.alphabet import by_span, by_steps, from_steps, read_table, table
from engine.tensor.codes.bits import CodeError, Ints, pack_bits, read_varints, unpack_bits, width
from engine.tensor.codes.coder import Coder, Option
from engine.tensor.codes.counts import Counted


def options(view: Counted) -> list[Option]:
    return [(len(view.places) * width(len(view.alphabet)) / 8, "packed", lambda: packed(view))]


def packed(view: Counted) -> bytes:
    if len(view.places) == 0:
        return b""
    n, k = len(view.places), len(view.alphabet)
    listed = table(by_steps(view), 1) + pack_bits(view.places, width(k))
    if width(view.span) > 32 or n * (width(view.span) - width(k)) > 8 * len(listed):
        return listed
    offsets = (view.alphabet - view.alphabet[0]).astype(np.uint32)[view.places]
    spanned = table(by_span(view), 0) + pack_bits(offsets, width(view.span))
    return min(spanned, listed, key=len)


def decode(data: bytes, count: int) -> Ints:
    if count == 0:
        if data:
            raise CodeError("a stream without symbols has bytes")
        return np.zeros(0, np.int64)
    low, size, listed, rest, payload = read_table(data)
    steps, used = read_varints(rest, size - 1 if listed else 0)
    places = unpack_bits(payload, width(size), count)
    if int(places.max()) >= size or used != len(rest):
        raise CodeError("a code is outside of its alphabet")
    if listed:
        return from_steps(low, steps)[places]
    places += low
    return places


PACKED = Coder("packed", options, decode)
