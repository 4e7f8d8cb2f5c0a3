"""Whole numbers as bits: fixed width, and lists of numbers in groups of seven bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.types import SlimscopeError

Ints = NDArray[np.int64]

BLOCK = 1 << 20  # symbols that are worked on at a time: no pass makes a wide copy of a long stream


class CodeError(SlimscopeError):
    """A stream that does not hold what it says: truncated, damaged, or not written by `encode`."""


def pack_bits(values: NDArray[np.integer], bits: int) -> bytes:
    """Values (n,) in 0..2^bits-1 as ceil(n * bits / 8) bytes, highest bit first; bits 0..32.

    Raises CodeError where a value does not fit.

    >>> pack_bits(np.array([1, 2, 3]), 2).hex()
    '6c'
    """
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < 1 << bits:
        raise CodeError(f"values {values.min()}..{values.max()} do not fit into {bits} bits")
    if bits == 0 or len(values) == 0:
        return b""
    wide = _container(bits)

    def packed(block: NDArray[np.integer]) -> bytes:
        if bits == 8 * wide.itemsize:
            return block.astype(wide).tobytes()
        planes = np.unpackbits(block.astype(wide).view(np.uint8)).reshape(len(block), -1)
        return np.packbits(planes[:, -bits:]).tobytes()

    return b"".join(packed(values[part]) for part in blocks(len(values)))


def unpack_bits(data: bytes, bits: int, count: int) -> Ints:
    """`count` values of `bits` bits each: (count,) int64. Raises CodeError for a wrong length."""
    wanted = (count * bits + 7) // 8
    if len(data) != wanted:
        raise CodeError(f"{count} values of {bits} bits take {wanted} bytes, not {len(data)}")
    if bits == 0 or count == 0:
        return np.zeros(count, np.int64)
    wide, raw = _container(bits), np.frombuffer(data, np.uint8)
    if bits == 8 * wide.itemsize:
        return raw.view(wide).astype(np.int64)
    values = np.empty(count, np.int64)
    for part in blocks(count):
        length = len(values[part])
        planes = np.zeros((length, wide.itemsize * 8), np.uint8)
        planes[:, -bits:] = np.unpackbits(raw[part.start * bits // 8 :], count=length * bits).reshape(
            -1, bits
        )
        values[part] = np.packbits(planes.reshape(-1)).view(wide)
    return values


def blocks(count: int, length: int = BLOCK) -> Iterator[slice]:
    return (slice(start, start + length) for start in range(0, count, length))


def _container(bits: int) -> np.dtype[np.unsignedinteger]:
    if not 0 <= bits <= 32:
        raise CodeError(f"a code has 0 to 32 bits, not {bits}")
    return np.dtype(">u1" if bits <= 8 else ">u2" if bits <= 16 else ">u4")


def width(symbols: int) -> int:
    """Bits of a fixed-width code for so many different symbols: ceil(log2 k), 0 for one symbol.

    >>> width(1), width(2), width(3), width(256)
    (0, 1, 2, 8)
    """
    return max(symbols - 1, 0).bit_length()


# ---------------------------------------------------------------- lists of numbers


def varints(values: Sequence[int] | NDArray[np.integer]) -> bytes:
    """Numbers >= 0 in 7-bit groups, lowest first; the top bit says that more follow (LEB128).

    >>> varints([5, 300]).hex()
    '05ac02'
    """
    if len(values) < 64:  # most lists are heads of two or three numbers: ten times faster without numpy
        return b"".join(_varint(int(value)) for value in values)
    numbers = np.asarray(values, np.int64)
    places = max(-(-int(numbers.max()).bit_length() // 7), 1)
    groups = numbers[:, None] >> (7 * np.arange(places))  # (n, places): what is left at each place
    more = np.concatenate([groups[:, 1:] > 0, np.zeros((len(numbers), 1), bool)], axis=1)
    used = np.concatenate([np.ones((len(numbers), 1), bool), more[:, :-1]], axis=1)
    written: bytes = ((groups & 127) | (more * 128))[used].astype(np.uint8).tobytes()
    return written


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def read_varints(data: bytes, count: int, offset: int = 0) -> tuple[Ints, int]:
    """`count` numbers from `data` at `offset`, and the offset behind them. Raises CodeError."""
    if count == 0:
        return np.zeros(0, np.int64), offset
    if count > len(data) - offset:
        raise CodeError("a list of numbers ends too early")
    raw = np.frombuffer(data, np.uint8, offset=offset)[: 8 * count]
    ends = np.flatnonzero(raw < 128)[:count]
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts[: len(ends)] + 1
    if len(ends) < count or int(lengths.max()) > 8:
        raise CodeError("a list of numbers ends too early or holds one above 2^56")
    numbers = np.zeros(count, np.int64)
    for place in range(int(lengths.max())):
        rows = np.flatnonzero(lengths > place)
        numbers[rows] |= (raw[starts[rows] + place].astype(np.int64) & 127) << (7 * place)
    return numbers, offset + int(ends[-1]) + 1


def zigzag(value: int) -> int:
    """A signed number as an unsigned one, small where it was small: 0, -1, 1, -2 -> 0, 1, 2, 3."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value // 2) - 1
