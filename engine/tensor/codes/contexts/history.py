"""What is known before a weight is coded: how full its row and columns were, and what its neighbours are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.mixing import ONE, STRETCH, Number, State
from engine.tensor.compiled import compiled, inlined

LARGEST = 255  # magnitude that is remembered of a neighbour
HALVES = 15  # the last half doubling that is told apart


def level_table() -> NDArray[np.uint8]:
    """Each 16-bit probability in 24 steps of a quarter nat."""
    probability = np.clip(np.arange(ONE + 1), 1, ONE - 1)
    levels: NDArray[np.uint8] = np.clip((STRETCH[probability].astype(np.int64) + 1280) >> 6, 0, 23).astype(
        np.uint8
    )
    return levels


def log_table() -> NDArray[np.uint8]:
    """Half doublings: 0 for 0, 1 for 1, 3 for 2, 4 for 3, 5 for 4, up to 15 for 128 and all above.

    >>> log_table()[[0, 1, 2, 3, 4, 127, 128]].tolist()
    [0, 1, 3, 4, 5, 14, 15]
    """
    bits = [number.bit_length() - 1 for number in range(129)]
    halves = [(number >> (b - 1)) & 1 if b > 0 else 0 for number, b in enumerate(bits)]
    steps = [min(1 + 2 * b + half, HALVES) for b, half in zip(bits, halves, strict=True)]
    return np.array([0, *steps[1:]], np.uint8)


LEVEL, LOG = level_table(), log_table()


class Columns(NamedTuple):
    """What is known of each column (columns,): non-zeros and their sizes so far; for the row to come, its
    share of non-zeros (16 bits), the level of that, and the level of the share with its neighbours'.
    """

    counted: State
    sizes: State
    shares: State
    alone: NDArray[np.uint8]
    smooth: NDArray[np.uint8]


class Around(NamedTuple):
    """Sizes of what was coded beside a symbol and above it, 0 outside; `level` is their weighted sum's."""

    left: Number
    left2: Number
    up: Number
    corner: Number
    corner2: Number
    above: Number
    above2: Number
    level: Number


@compiled
def log_step(number: Number) -> Number:
    """A number >= 0 in half doublings, as `log_table` has them."""
    return np.int64(LOG[np.uint32(min(int(number), 128))])


@inlined
def empty_columns(columns: Number) -> Columns:
    return Columns(
        np.zeros(columns, np.int64),
        np.zeros(columns, np.int64),
        np.zeros(columns, np.int64),
        np.zeros(columns, np.uint8),
        np.zeros(columns, np.uint8),
    )


@compiled
def look_at_columns(row: Number, period: Number, prior: Number, columns: Columns) -> None:
    """Shares and levels before a row. A share is found by a division of floats, in a quarter of the time:
    of whole numbers below 2^53 its whole part is exact.
    """
    counted, shares = columns.counted, columns.shares
    for j in range(len(counted)):
        share = np.float64((counted[j] << 16) + 2 * prior) / np.float64(row + 2)
        shares[j] = min(int(share), ONE - 1)
        columns.alone[j] = LEVEL[np.uint32(shares[j])]
    for j in range(len(counted)):
        total = 2 * counted[j]
        parts = 2
        for step in (1, period):
            if j >= step:
                total += counted[j - step]
                parts += 1
            if j + step < len(counted):
                total += counted[j + step]
                parts += 1
        share = np.float64((total << 16) + 2 * prior) / np.float64(parts * row + 2)
        columns.smooth[j] = LEVEL[np.uint32(min(int(share), ONE))]


@inlined
def means_at(columns: Columns, j: Number, row_mean: Number) -> Number:
    """How large symbols were on average in column j and in this row, in half doublings, as one number."""
    return log_step(4 * columns.sizes[j] // (columns.counted[j] + 1)) * 16 + row_mean


@inlined
def look_around(
    sizes: NDArray[np.uint8], i: Number, j: Number, row: Number, columns: Number, period: Number
) -> Around:
    """What lies near symbol i, in column j, in a matrix and in the image that its row may be."""
    left = np.int64(sizes[i - 1]) if j >= 1 else 0
    left2 = np.int64(sizes[i - 2]) if j >= 2 else 0
    up = np.int64(sizes[i - period]) if j >= period else 0
    corner = np.int64(sizes[i - period + 1]) if j >= period else 0
    corner2 = np.int64(sizes[i - period - 1]) if j >= period + 1 else 0
    above = np.int64(sizes[i - columns]) if row >= 1 else 0
    above2 = np.int64(sizes[i - 2 * columns]) if row >= 2 else 0
    level = log_step(2 * left + 2 * up + left2 + corner + corner2)
    return Around(left, left2, up, corner, corner2, above, above2, level)


@inlined
def sign_at(values: NDArray[np.int32], i: Number, inside: Number) -> Number:
    """1 above the background, 2 below it, 0 for it and outside."""
    if not inside or values[i] == 0:
        return 0
    return 1 if values[i] > 0 else 2
