"""Coder `sparse`: where one symbol makes up half of a stream, the places of all others, and those others.

The places are a mask or gaps; they and the others are packed or range coded.
"""

from __future__ import annotations

import numpy as np

from engine.tensor.codes.bits import CodeError, Ints, read_varints, unzigzag, varints, width, zigzag
from engine.tensor.codes.coder import Coder, Option, shortest
from engine.tensor.codes.counts import Counted, counted, entropy_bits, gaps
from engine.tensor.codes.entropy import ENTROPY
from engine.tensor.codes.packed import PACKED, packed

INSIDE = (PACKED, ENTROPY)  # the coders of its parts, named by their place here: an order for good


def options(view: Counted) -> list[Option]:
    return _options(view, *found) if (found := rare_symbols(view)) else []


def rare_symbols(view: Counted) -> tuple[Ints, Counted] | None:
    """Places of all but the most frequent symbol, and those symbols; None below half of the stream."""
    if len(view.alphabet) < 2 or 2 * int(view.counts.max()) < len(view.places):
        return None
    positions = np.flatnonzero(view.places != int(view.counts.argmax()))
    return positions, counted(view.alphabet[view.places[positions]])


def _options(view: Counted, positions: Ints, others: Counted) -> list[Option]:
    # A range-coded mask with range-coded others is the range-coded stream again: it is not tried.
    n, rare = len(view.places), len(positions)
    skipped, flat = counted(gaps(positions)), rare * width(len(others.alphabet))
    gap_bits = entropy_bits(skipped.counts) + entropy_bits(others.counts)
    mask_bits = entropy_bits(np.array([n - rare, rare])) + flat
    head = varints([zigzag(int(view.alphabet[view.counts.argmax()])), rare])

    def by_gaps() -> bytes:
        return head + b"\0" + _framed(shortest(_inside(skipped))) + _framed(shortest(_inside(others)))

    def by_mask() -> bytes:
        mask = np.zeros(n, np.uint8)
        mask[positions] = 1
        return head + b"\1" + _framed(shortest(_inside(counted(mask)))) + _framed(("packed", packed(others)))

    return [(gap_bits / 8, "sparse", by_gaps), (mask_bits / 8, "sparse", by_mask)]


def _inside(view: Counted) -> list[Option]:
    return [option for coder in INSIDE for option in coder.options(view)]


def _framed(stream: tuple[str, bytes]) -> bytes:
    coder, data = stream
    return varints([[each.name for each in INSIDE].index(coder), len(data)]) + data


def _read_frame(data: bytes, offset: int, count: int) -> tuple[Ints, int]:
    (coder, length), offset = read_varints(data, 2, offset)
    if coder >= len(INSIDE) or length > len(data) - offset:
        raise CodeError("a part of a sparse stream is cut off")
    end = offset + int(length)
    return INSIDE[int(coder)].decode(data[offset:end], count), end


def decode(data: bytes, count: int) -> Ints:
    (background, rare, form), offset = read_varints(data, 3)
    if rare > count:
        raise CodeError(f"{rare} symbols do not fit into a stream of {count}")
    listed, offset = _read_frame(data, offset, count if form else int(rare))
    # Steps are checked one by one before they are summed, so that no sum can run over.
    if not form and rare and not 0 <= int(listed.min()) <= int(listed.max()) < count:
        raise CodeError("a gap is longer than its stream")
    positions = np.flatnonzero(listed) if form else np.cumsum(listed + 1) - 1
    others, offset = _read_frame(data, offset, int(rare))
    if len(positions) != rare or (rare and int(positions[-1]) >= count) or offset != len(data):
        raise CodeError("the places of a sparse stream do not fit its length")
    symbols = np.full(count, unzigzag(int(background)), np.int64)
    symbols[positions] = others
    return symbols


SPARSE = Coder("sparse", options, decode)
