"""Which code a weight gets where its bits have a price: the coder's own adaptive costs against the error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.conditions import Matrix, sign_contexts, size_contexts
from engine.tensor.codes.contexts.history import Around, Columns, means_at
from engine.tensor.codes.contexts.mixing import Eight, Mixer, Number, State, length_of
from engine.tensor.codes.contexts.places import MAG_SET, NEAR_SET, ROW_SET, SIGN_SET, UNARY
from engine.tensor.compiled import inlined


class Rating(NamedTuple):
    """Of each weight (n,), where it lies in steps and what a squared step of error costs; a bit's price."""

    ratios: NDArray[np.float32]
    worths: NDArray[np.float32]
    price: float


@inlined
def cheapest(
    mixer: Mixer,
    matrix: Matrix,
    history: Columns,
    start: State,
    near: Around,
    contexts: Eight,
    row_set: Number,
    place: tuple[Number, Number],
    row_mean: Number,
    rating: Rating,
) -> Number:
    """The best of zero, a weight's nearest code, and the code before that; the least of error and bits.

    `contexts` are those of significance, `place` is row and column.
    """
    row, j = place
    i = row * matrix.columns + j
    nearest = np.int64(matrix.values[i])
    if nearest == 0:
        return nearest
    ratio, worth, second = np.float64(rating.ratios[i]), np.float64(rating.worths[i]), ROW_SET + near.level
    best = np.int64(0)
    least = length_of(mixer, 0, contexts, row_set, second) * rating.price + worth * ratio**2
    signs, sign_set = sign_contexts(matrix, start, row, j)
    bits = length_of(mixer, 1, contexts, row_set, second) + matrix.shift
    bits += length_of(mixer, 1 if nearest < 0 else 0, signs, SIGN_SET, sign_set)
    means = means_at(history, j, row_mean)
    for one in (nearest - np.sign(nearest), nearest):
        if one != 0:
            size = ((abs(one) - 1) >> matrix.shift) + 1
            length = bits + length_of_size(mixer, start, near, row, j, history.smooth[j], means, size)
            cost = length * rating.price + worth * (ratio - one) ** 2
            if cost < least:
                best, least = one, cost
    return best


@inlined
def length_of_size(
    mixer: Mixer,
    start: State,
    near: Around,
    row: Number,
    j: Number,
    smooth: Number,
    means: Number,
    wanted: Number,
) -> Number:
    """How many bits a magnitude without its low bits would take; above UNARY, about as many."""
    bits = 0.0
    for size in range(1, UNARY + 1):
        contexts = size_contexts(start, near, row, j, smooth, means, size)
        bits += length_of(mixer, 1 if wanted > size else 0, contexts, MAG_SET + size, NEAR_SET + near.level)
        if wanted <= size:
            return bits
    return bits + 2 * np.log2(wanted - UNARY) + 1
