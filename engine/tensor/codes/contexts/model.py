"""What a weight's symbol is predicted from: its row, its column, its neighbours and their magnitudes.

A symbol is its distance from the background: is there any (significance), its sign, its magnitude in unary
up to UNARY and then in groups of bits. Contexts see what was coded before only, so a decoder has them too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.compiled import compiled
from engine.tensor.codes.contexts.mixing import (
    CODE,
    ENCODING,
    EXTRA,
    FINE,
    HIGH,
    INPUTS,
    ONE,
    PLACE,
    STRETCH,
    Number,
    State,
    Table,
    code_bit,
    mixed_bit,
)

UNARY = 14  # magnitudes above are coded in groups of bits
GROUPS = 20  # of them at most: a distance has no more bits
HASHED = 1 << 16  # rows and columns with counters of their own; later ones share them
MARGIN = 512  # bytes that one symbol cannot fill
# Where the counters of each context start: `size` places each.
SIG_COLUMN, SIG_ROW, SIG_DENSITY, SIG_ROW_NEAR, SIG_ABOVE, SIG_SMOOTH, SIG_NEAR, SIG_ANY = range(8)
SIGN_COLUMN, SIGN_NEAR, SIGN_ABOVE, SIGN_ROW, SIGN_ANY = range(8, 13)
MAG_DENSITY, MAG_ROW, MAG_NEAR, MAG_COLUMN, MAG_ABOVE, MAG_BOTH, MAG_ANY = range(13, 20)
REST, LOW_BITS = 20, 21
SIG_SET, ROW_SET, SIGN_SET, MAG_SET, NEAR_SET = 0, 16, 32, 36, 52  # rows of mixing weights
SETS = 68


def starts(rows: int, columns: int) -> State:
    """Where each context's counters start, and how many there are in all."""
    few_rows, few_columns = min(rows, HASHED), min(columns, HASHED)
    sizes = [few_columns, few_rows, 24 * 16, 4 * 3 * 4 * 3 * 3, 24 * 12, 24 * 16, 24 * 16, 1]
    sizes += [few_columns, 81, 27, few_rows, 1]
    sizes += [
        24 * 16,
        few_rows * 4,
        16 * 16,
        few_columns * 4,
        4 * 4 * 16,
        16 * 16 * 4,
        16,
        GROUPS * (GROUPS + 1),
        4 * 64,
    ]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@compiled
def level(p: Number) -> Number:
    """A probability in 24 steps of a quarter nat."""
    return min(max((STRETCH[min(max(p, 1), ONE - 1)] + 1280) >> 6, 0), 23)


@compiled
def log_step(number: Number) -> Number:
    """Half doublings: 0 for 0, 1 for 1, 3 for 2, 4 for 3, 5 for 4, up to 15."""
    if number <= 0:
        return 0
    bits = 0
    while number >> (bits + 1) > 0 and bits < 8:
        bits += 1
    half = (number >> (bits - 1)) & 1 if bits > 0 else 0
    return min(1 + 2 * bits + half, 15)


@compiled
def size_of(value: Number, shift: Number) -> Number:
    """A symbol's magnitude without its low bits, counted from 1; 0 for the background."""
    return ((abs(value) - 1) >> shift) + 1


@compiled
def side(value: Number) -> Number:
    return 1 if value > 0 else (2 if value < 0 else 0)


@compiled
def look_at_columns(
    row: Number, period: Number, prior: Number, counted: State, shares: State, alone: State, smooth: State
) -> None:
    """Each column's share of non-zeros so far (16 bits), its level, and that with its neighbours'."""
    columns = len(counted)
    for j in range(columns):
        shares[j] = min(((counted[j] << 16) + 2 * prior) // (row + 2), ONE - 1)
        alone[j] = level(shares[j])
        total = 2 * counted[j]
        parts = 2
        for step in (1, period):
            if j >= step:
                total += counted[j - step]
                parts += 1
            if j + step < columns:
                total += counted[j + step]
                parts += 1
        smooth[j] = level(((total << 16) + 2 * prior) // (parts * row + 2))


@compiled
def run(
    values: Table,
    settings: State,
    start: State,
    coder: State,
    stream: NDArray[np.uint8],
) -> Number:
    """Code all values (n,), rows of `columns` one after the other; the number that was coded."""
    columns, period, prior, shift = settings[0], settings[1], settings[2] << 8, settings[3]
    chance = np.full(start[-1], 1 << (FINE - 1), np.int32)
    seen = np.zeros(start[-1], np.int32)
    weights = np.full((SETS, INPUTS + 1), 20000, np.int32)
    weights[:, INPUTS] = 0
    inputs = np.zeros(INPUTS, np.int32)
    contexts = np.zeros(INPUTS, np.int64)
    counted = np.zeros(columns, np.int64)
    sizes = np.zeros(columns, np.int64)
    shares = np.zeros(columns, np.int64)
    alone = np.zeros(columns, np.int64)
    smooth = np.zeros(columns, np.int64)
    hashed = HASHED - 1
    n = len(values)
    row = -1
    j = columns
    found = expected = row_size = row_level = 0
    for i in range(n):
        if j == columns:
            j = 0
            row += 1
            look_at_columns(row, period, prior, counted, shares, alone, smooth)
            found = expected = row_size = 0
            row_level = 9
            row_set = SIG_SET + min(log_step(row), 15)
        elif j & 3 == 0:
            row_level = log_step(((found + 1) << 20) // (expected + ONE))
        left = np.int64(values[i - 1]) if j >= 1 else 0
        left2 = np.int64(values[i - 2]) if j >= 2 else 0
        up = np.int64(values[i - period]) if j >= period else 0
        corner = np.int64(values[i - period + 1]) if j >= period else 0
        corner2 = np.int64(values[i - period - 1]) if j >= period + 1 else 0
        above = np.int64(values[i - columns]) if row >= 1 else 0
        above2 = np.int64(values[i - 2 * columns]) if row >= 2 else 0
        near_left, near_left2, near_up = size_of(left, shift), size_of(left2, shift), size_of(up, shift)
        near_corner, near_corner2 = size_of(corner, shift), size_of(corner2, shift)
        near_above, near_above2 = size_of(above, shift), size_of(above2, shift)
        near_level = log_step(2 * near_left + 2 * near_up + near_left2 + near_corner + near_corner2)
        density, dense_near = alone[j], smooth[j]
        contexts[0] = start[SIG_COLUMN] + (j & hashed)
        contexts[1] = start[SIG_ROW] + (row & hashed)
        contexts[2] = start[SIG_DENSITY] + density * 16 + row_level
        around = (min(near_left, 3) * 3 + min(near_left2, 2)) * 4 + min(near_up, 3)
        around = (around * 3 + min(near_corner, 2)) * 3 + min(near_corner2, 2)
        contexts[3] = start[SIG_ROW_NEAR] + around
        contexts[4] = start[SIG_ABOVE] + (density * 4 + min(near_above, 3)) * 3 + min(near_above2, 2)
        contexts[5] = start[SIG_SMOOTH] + dense_near * 16 + row_level
        contexts[6] = start[SIG_NEAR] + dense_near * 16 + near_level
        contexts[7] = start[SIG_ANY]
        value = np.int64(values[i])
        bit = mixed_bit(
            coder,
            stream,
            1 if value != 0 else 0,
            contexts,
            chance,
            seen,
            weights,
            row_set,
            ROW_SET + near_level,
            inputs,
        )
        expected += shares[j]
        if bit == 1:
            contexts[0] = start[SIGN_COLUMN] + (j & hashed)
            contexts[1] = start[SIGN_NEAR] + (side(left) * 3 + side(up)) * 9
            contexts[1] += side(corner) * 3 + side(corner2)
            contexts[2] = start[SIGN_ABOVE] + (side(above) * 3 + side(above2)) * 3 + side(left)
            contexts[3] = start[SIGN_ROW] + (row & hashed)
            contexts[4:] = start[SIGN_ANY]
            negative = mixed_bit(
                coder,
                stream,
                1 if value < 0 else 0,
                contexts,
                chance,
                seen,
                weights,
                SIGN_SET,
                SIGN_SET + 1 + side(left),
                inputs,
            )
            column_mean = log_step(4 * sizes[j] // (counted[j] + 1)) if counted[j] else 0
            row_mean = log_step(4 * row_size // (found + 1)) if found else 0
            wanted = size_of(value, shift)
            below = (abs(value) - 1) & ((1 << shift) - 1)
            size = 1
            while size <= UNARY:
                u, short = size, min(size, 4) - 1
                contexts[0] = start[MAG_DENSITY] + dense_near * 16 + u
                contexts[1] = start[MAG_ROW] + (row & hashed) * 4 + short
                contexts[2] = start[MAG_NEAR] + near_level * 16 + u
                contexts[3] = start[MAG_COLUMN] + (j & hashed) * 4 + short
                contexts[4] = start[MAG_ABOVE] + (min(near_above, 3) * 4 + min(near_left, 3)) * 16 + u
                contexts[5] = start[MAG_BOTH] + (column_mean * 16 + row_mean) * 4 + short
                contexts[6:] = start[MAG_ANY] + u
                more = mixed_bit(
                    coder,
                    stream,
                    1 if wanted > size else 0,
                    contexts,
                    chance,
                    seen,
                    weights,
                    MAG_SET + u,
                    NEAR_SET + near_level,
                    inputs,
                )
                if more == 0:
                    break
                size += 1
            if size > UNARY:
                size += coded_rest(coder, stream, wanted - size, start, chance, seen)
            low = coded_low(coder, stream, below, shift, start[LOW_BITS] + 64 * min(size, 3), chance, seen)
            whole = ((size - 1) << shift) + low + 1
            values[i] = -whole if negative == 1 else whole
            found += 1
            row_size += size
            counted[j] += 1
            sizes[j] += size
        if coder[PLACE] < 0 or (coder[ENCODING] == 1 and coder[PLACE] + MARGIN > len(stream)):
            return i
        j += 1
    return n


@compiled
def coded_rest(
    coder: State, stream: NDArray[np.uint8], rest: Number, start: State, chance: Table, seen: Table
) -> Number:
    """A magnitude less UNARY + 1, from 0: how many bits it and one have, then those bits from the top."""
    number = rest + 1
    bits = 0
    while bits < GROUPS - 1:
        more = adaptive_bit(
            coder, stream, 1 if number >> (bits + 1) > 0 else 0, start[REST] + bits, chance, seen
        )
        if more == 0:
            break
        bits += 1
    found = 1
    for k in range(bits):
        place = start[REST] + GROUPS * (1 + bits) + k
        found = 2 * found + adaptive_bit(coder, stream, (number >> (bits - 1 - k)) & 1, place, chance, seen)
    return found - 1


@compiled
def coded_low(
    coder: State,
    stream: NDArray[np.uint8],
    low: Number,
    shift: Number,
    place: Number,
    chance: Table,
    seen: Table,
) -> Number:
    """The `shift` low bits of a magnitude: five under counters that know those before, the rest without."""
    found = 0
    for k in range(shift):
        bit = (low >> (shift - 1 - k)) & 1
        if k < 5:
            bit = adaptive_bit(coder, stream, bit, place + (1 << k) + found, chance, seen)
        else:
            bit = code_bit(coder, stream, bit, ONE >> 1)
        found = 2 * found + bit
    return found


@compiled
def adaptive_bit(
    coder: State, stream: NDArray[np.uint8], bit: Number, place: Number, chance: Table, seen: Table
) -> Number:
    """One bit under one counter."""
    bit = code_bit(coder, stream, bit, min(max(chance[place] >> (FINE - 16), 32), ONE - 32))
    n = np.int64(seen[place])
    chance[place] += ((bit << FINE) - bit - np.int64(chance[place])) * 2 // (2 * n + 3)
    if n < 200:
        seen[place] = n + 1
    return bit


@compiled
def begin(coder: State, stream: NDArray[np.uint8], encoding: Number) -> None:
    """The coder's first state; a reader takes its first four bytes."""
    coder[:] = 0
    coder[HIGH], coder[ENCODING] = 0xFFFFFFFF, encoding
    if encoding == 0:
        for k in range(4):
            byte = np.int64(stream[k]) if k < len(stream) else 0
            coder[CODE] = (coder[CODE] << 8) | byte
        coder[PLACE] = 4


__all__ = ["EXTRA", "MARGIN", "begin", "run", "starts"]
