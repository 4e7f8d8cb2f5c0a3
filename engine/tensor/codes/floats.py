"""Coder of 32-bit floats: the first bits of each are coded, the others stand as they are.

Signs, exponents and first mantissa bits of weights, scales and biases are few and uneven; the bits behind
them are noise. Last bits that are zero in all numbers cost nothing. A short stream learns as it goes, and
a number that it repeats costs little; a long one is range coded with its own counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.bits import CodeError, blocks, pack_bits, read_varints, unpack_bits, varints
from engine.tensor.codes.coder import shortest
from engine.tensor.codes.contexts import patterns
from engine.tensor.codes.contexts.mixing import MARGIN, PLACE, begin, last_bytes
from engine.tensor.codes.counts import counted
from engine.tensor.codes.entropy import ENTROPY
from engine.tensor.codes.packed import PACKED

NAME = "floats"  # its id in packed files, for good
MANTISSA = 23  # bits
DEPTH = 3  # mantissa bits that are coded in a long stream
LONG = 4096  # numbers
ADAPTIVE, REPEATING, RANGE, FIXED = range(4)  # how the first bits are coded
STATIC = {RANGE: ENTROPY, FIXED: PACKED}

Patterns = NDArray[np.uint32]


def encode(values: NDArray[np.floating]) -> bytes:
    """Floats (n,) of 32 bits; `decode` gives the same bits, those of NaN and -0 too.

    >>> decode(encode(np.array([0.5, -0.0, 0.5], np.float32)), 3).tolist()
    [0.5, -0.0, 0.5]
    """
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32)
    return _encode_long(bits) if len(bits) >= LONG else _encode_short(bits)


def least(values: NDArray[np.floating]) -> int:
    """Bytes that `encode` takes at least: the bits that it writes as they stand."""
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32)
    plain = MANTISSA - _last_zeros(bits) - DEPTH
    return len(bits) * max(plain, 0) // 8 if len(bits) >= LONG else 0


def _encode_long(bits: Patterns) -> bytes:
    zeros = _last_zeros(bits)
    depth = min(DEPTH, MANTISSA - zeros)
    tops = counted((bits >> np.uint32(MANTISSA - depth)).astype(np.int32))
    coder, coded = shortest([option for each in STATIC.values() for option in each.options(tops)])
    form = next(form for form, each in STATIC.items() if each.name == coder)
    return varints([form, depth, zeros, len(coded)]) + coded + _plain(bits, depth, zeros)


def _encode_short(bits: Patterns) -> bytes:
    repeated = _repeated(bits)
    alike = np.zeros(len(bits), np.uint8) if repeated is None else (bits == repeated).astype(np.uint8)
    others, form = bits[alike == 0], ADAPTIVE if repeated is None else REPEATING
    zeros = _last_zeros(others)
    coded = _coded((others >> np.uint32(MANTISSA)).astype(np.int32), alike, form)
    head = varints([form, 0, zeros, len(coded)])
    return head + (b"" if repeated is None else repeated.tobytes()) + coded + _plain(others, 0, zeros)


def _repeated(bits: Patterns) -> np.uint32 | None:
    """The number that is there most often, where it is a sixteenth of all at least."""
    found, counts = np.unique(bits, return_counts=True)
    return np.uint32(found[counts.argmax()]) if len(bits) and counts.max() >= max(len(bits) / 16, 4) else None


def _last_zeros(bits: Patterns) -> int:
    """How many last bits of the mantissa are zero in all numbers."""
    union = int(np.bitwise_or.reduce(bits, initial=0)) | 1 << MANTISSA
    return (union & -union).bit_length() - 1


def _coded(tops: NDArray[np.int32], alike: NDArray[np.uint8], form: int) -> bytes:
    coder, stream = np.zeros(5, np.int64), np.empty(3 * len(alike) + 2 * MARGIN, np.uint8)
    begin(coder, stream, 1)
    if patterns.run(tops, alike, form, coder, stream) < len(alike):
        raise CodeError("the first bits of floats take more than three bytes each")
    return stream[: coder[PLACE]].tobytes() + last_bytes(coder)


def _plain(bits: Patterns, depth: int, zeros: int) -> bytes:
    """The bits between those that are coded and those that are zero: 16 of each number first."""
    low, high = _widths(depth, zeros)
    return _packed(bits, zeros, low) + _packed(bits, zeros + low, high)


def _widths(depth: int, zeros: int) -> tuple[int, int]:
    left = MANTISSA - depth - zeros
    return min(left, 16), max(left - 16, 0)


def _packed(bits: Patterns, shift: int, width: int) -> bytes:
    mask = np.uint32((1 << width) - 1)
    return b"".join(pack_bits((bits[part] >> np.uint32(shift)) & mask, width) for part in blocks(len(bits)))


# ---------------------------------------------------------------- read


def decode(data: bytes, count: int) -> NDArray[np.float32]:
    """The `count` floats of a stream. Raises CodeError for a damaged one."""
    (form, depth, zeros, length), offset = read_varints(data, 4)
    start = offset + (4 if form == REPEATING else 0)
    if form > FIXED or depth > DEPTH or depth + zeros > MANTISSA or length > len(data) - start:
        raise CodeError("the head of a stream of floats cannot be")
    coded, rest = data[start : start + int(length)], data[start + int(length) :]
    if form in STATIC:
        tops = STATIC[int(form)].decode(coded, count)
        if count and not 0 <= int(tops.min()) <= int(tops.max()) < 1 << (9 + int(depth)):
            raise CodeError("the first bits of a float are too many")
        return _joined(tops, rest, int(depth), int(zeros)).view(np.float32)
    firsts, alike = _read(coded, count, int(form))
    if depth:
        raise CodeError("a short stream of floats has no coded mantissa")
    bits = np.full(count, int.from_bytes(data[offset:start], "little"), np.uint32)
    bits[alike == 0] = _joined(firsts[: count - int(alike.sum())], rest, 0, int(zeros))
    return bits.view(np.float32)


def _joined(tops: NDArray[np.integer], rest: bytes, depth: int, zeros: int) -> Patterns:
    n, (low, high) = len(tops), _widths(depth, zeros)
    cut, found = (n * low + 7) // 8, np.empty(n, np.uint32)
    if len(rest) != cut + (n * high + 7) // 8:
        raise CodeError(f"the bits behind the first of {n} floats take {cut} bytes or more, not {len(rest)}")
    for part in blocks(n):
        found[part] = tops[part].astype(np.uint32) << np.uint32(low + high + zeros)
        found[part] |= _unpacked(rest[:cut], part, low, n) << np.uint32(zeros)
        found[part] |= _unpacked(rest[cut:], part, high, n) << np.uint32(zeros + low)
    return found


def _unpacked(data: bytes, part: slice, width: int, n: int) -> Patterns:
    end = min(part.stop, n)
    cut = data[part.start * width // 8 : (end * width + 7) // 8]
    return unpack_bits(cut, width, end - part.start).astype(np.uint32)


def _read(data: bytes, count: int, form: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    tops, alike = np.zeros(count, np.int32), np.zeros(count, np.uint8)
    coder, stream = np.zeros(5, np.int64), np.frombuffer(data, np.uint8).copy()
    begin(coder, stream, 0)
    done = patterns.run(tops, alike, form, coder, stream)
    end = int(coder[PLACE]) - 4  # the reader is four bytes ahead
    if done < count or end > len(data) or data[end:] != last_bytes(coder):
        raise CodeError(f"a stream of {count} floats is damaged or cut off at number {done}")
    return tops, alike
