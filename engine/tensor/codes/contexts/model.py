"""Coding of a matrix, symbol by symbol, each bit under its contexts.

A symbol is its distance from the background: is there any (significance), its sign, its magnitude in unary
up to UNARY and then in groups of bits. Contexts see what was coded before only, so a decoder has them too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.conditions import Matrix, sign_contexts, significance, size_contexts
from engine.tensor.codes.contexts.history import (
    LARGEST,
    Around,
    Columns,
    empty_columns,
    log_step,
    look_around,
    look_at_columns,
    means_at,
)
from engine.tensor.codes.contexts.mixing import (
    ONE,
    Mixer,
    Number,
    State,
    Table,
    adaptive_bit,
    code_bit,
    fresh_counters,
    fresh_weights,
    is_stuck,
    mixed_bit,
)
from engine.tensor.codes.contexts.places import (
    GROUPS,
    LOW_BITS,
    MAG_SET,
    NEAR_SET,
    REST,
    ROW_SET,
    SETS,
    SIG_SET,
    SIGN_SET,
    UNARY,
)
from engine.tensor.codes.contexts.rating import Rating, cheapest
from engine.tensor.compiled import compiled, inlined

EVEN = 9  # how full a row is, before it says so


@compiled
def run(
    values: Table,
    settings: State,
    start: State,
    coder: State,
    stream: NDArray[np.uint8],
    rating: Rating | None,
) -> Number:
    """Code all values (n,), rows of `columns` one after the other; the number that was coded.

    With a rating, each value is first replaced by its cheapest code.
    """
    columns, period, prior, shift = settings[0], settings[1], settings[2] << 8, settings[3]
    mixer = Mixer(coder, stream, fresh_counters(start[-1]), fresh_weights(SETS))
    matrix = Matrix(values, np.zeros(len(values), np.uint8), columns, period, shift)
    history = empty_columns(columns)
    for row in range(-(-len(values) // columns)):
        look_at_columns(row, period, prior, history)
        length = min(columns, len(values) - row * columns)
        done = code_row(mixer, matrix, history, start, row, length, rating)
        if done < length:
            return row * columns + done
    return len(values)


@inlined
def code_row(
    mixer: Mixer,
    matrix: Matrix,
    history: Columns,
    start: State,
    row: Number,
    length: Number,
    rating: Rating | None,
) -> Number:
    """Code `length` symbols of a row; how many were coded."""
    found = expected = row_size = 0
    fullness, row_set = EVEN, SIG_SET + log_step(row)
    for j in range(length):
        i = row * matrix.columns + j
        if j > 0 and j & 3 == 0:
            fullness = log_step(((found + 1) << 20) // (expected + ONE))
        near = look_around(matrix.sizes, i, j, row, matrix.columns, matrix.period)
        contexts = significance(start, history, near, row, j, fullness)
        if rating is not None:
            mean = log_step(4 * row_size // (found + 1))
            matrix.values[i] = cheapest(
                mixer, matrix, history, start, near, contexts, row_set, (row, j), mean, rating
            )
        there = 1 if matrix.values[i] != 0 else 0
        expected += history.shares[j]
        if mixed_bit(mixer, there, contexts, row_set, ROW_SET + near.level) == 1:
            mean = log_step(4 * row_size // (found + 1))
            size = code_value(mixer, matrix, history, start, near, row, j, mean)
            found += 1
            row_size += size
        if is_stuck(mixer):
            return j
    return length


@inlined
def code_value(
    mixer: Mixer,
    matrix: Matrix,
    history: Columns,
    start: State,
    near: Around,
    row: Number,
    j: Number,
    row_mean: Number,
) -> Number:
    """Sign and magnitude of a symbol that differs from the background, in column j; its size."""
    i, shift = row * matrix.columns + j, matrix.shift
    value = np.int64(matrix.values[i])
    negative = code_sign(mixer, matrix, start, row, j, 1 if value < 0 else 0)
    wanted, below = ((abs(value) - 1) >> shift) + 1, (abs(value) - 1) & ((1 << shift) - 1)
    means = means_at(history, j, row_mean)
    size = code_size(mixer, start, near, row, j, history.smooth[j], means, wanted)
    low = code_low(mixer, below, shift, start[LOW_BITS] + 64 * min(size, 3))
    whole = ((size - 1) << shift) + low + 1
    matrix.values[i] = -whole if negative == 1 else whole
    matrix.sizes[i] = min(size, LARGEST)
    history.counted[j] += 1
    history.sizes[j] += size
    return size


@inlined
def code_sign(mixer: Mixer, matrix: Matrix, start: State, row: Number, j: Number, negative: Number) -> Number:
    """Whether a symbol is below the background: the signs of seven neighbours say something."""
    contexts, second = sign_contexts(matrix, start, row, j)
    return mixed_bit(mixer, negative, contexts, SIGN_SET, second)


@inlined
def code_size(
    mixer: Mixer,
    start: State,
    near: Around,
    row: Number,
    j: Number,
    smooth: Number,
    means: Number,
    wanted: Number,
) -> Number:
    """A magnitude without its low bits, from 1: is it larger than 1, than 2, and so on."""
    size = 1
    while size <= UNARY:
        contexts = size_contexts(start, near, row, j, smooth, means, size)
        if mixed_bit(mixer, 1 if wanted > size else 0, contexts, MAG_SET + size, NEAR_SET + near.level) == 0:
            return size
        size += 1
    return size + code_rest(mixer, wanted - size, start)


@inlined
def code_rest(mixer: Mixer, rest: Number, start: State) -> Number:
    """A magnitude less UNARY + 1, from 0: how many bits it and one have, then those bits from the top."""
    number, bits = rest + 1, 0
    while bits < GROUPS - 1:
        if adaptive_bit(mixer, 1 if number >> (bits + 1) > 0 else 0, start[REST] + bits) == 0:
            break
        bits += 1
    found = 1
    for k in range(bits):
        place = start[REST] + GROUPS * (1 + bits) + k
        found = 2 * found + adaptive_bit(mixer, (number >> (bits - 1 - k)) & 1, place)
    return found - 1


@inlined
def code_low(mixer: Mixer, low: Number, shift: Number, place: Number) -> Number:
    """The `shift` low bits of a magnitude: five under counters that know those before, the rest without."""
    found = 0
    for k in range(shift):
        bit = (low >> (shift - 1 - k)) & 1
        known = k < 5
        coded = (
            adaptive_bit(mixer, bit, place + (1 << k) + found) if known else code_bit(mixer, bit, ONE >> 1)
        )
        found = 2 * found + coded
    return found
