"""The alphabet of a stream as bytes: its smallest symbol and either its span or its size and steps."""

from __future__ import annotations

import zlib

import numpy as np

from engine.tensor.codes.bits import CodeError, Ints, read_varints, unzigzag, varints, zigzag
from engine.tensor.codes.counts import Counted

LARGEST_TABLE = 1 << 24  # bytes of an alphabet or count table before zlib: bounds what is read back


def by_span(view: Counted) -> bytes:
    return varints([zigzag(int(view.alphabet[0])), view.span])


def by_steps(view: Counted) -> bytes:
    head = varints([zigzag(int(view.alphabet[0])), len(view.alphabet)])
    return head + varints(np.diff(view.alphabet))


def table(body: bytes, form: int) -> bytes:
    squeezed = zlib.compress(body, 9) if 32 < len(body) < LARGEST_TABLE else body
    if len(squeezed) < len(body):
        body, form = squeezed, form + 2
    return bytes([form]) + varints([len(body)]) + body


def read_table(data: bytes) -> tuple[int, int, bool, bytes, bytes]:
    """(smallest symbol, span or size, whether steps are listed, rest of the table, payload)."""
    form = data[0] if data else 255
    (length,), start = read_varints(data, 1, 1)
    body = data[start : start + int(length)]
    if form > 3 or len(body) < length:
        raise CodeError("a table is cut off or of an unknown form")
    plain = _unzip(body) if form >= 2 else body
    (low, size), offset = read_varints(plain, 2)
    if not 1 <= size <= 1 << 32:
        raise CodeError(f"an alphabet of {size} symbols cannot be")
    return unzigzag(int(low)), int(size), form % 2 == 1, plain[offset:], data[start + int(length) :]


def from_steps(low: int, steps: Ints) -> Ints:
    if len(steps) and int(steps.max()) > 1 << 35:
        raise CodeError("the symbols of an alphabet lie too far apart")
    return low + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def _unzip(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body, LARGEST_TABLE)
    except zlib.error as error:
        raise CodeError(f"a table is damaged: {error}") from None
    if not stream.eof:
        raise CodeError("a table is cut off or too long")
    return plain
