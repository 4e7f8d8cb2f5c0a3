"""Contexts of each bit of a symbol: its row, its column, its neighbours and their magnitudes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.history import Around, Columns, sign_at
from engine.tensor.codes.contexts.mixing import Eight, Number, State, Table
from engine.tensor.codes.contexts.places import (
    HASHED,
    MAG_ABOVE,
    MAG_ANY,
    MAG_BOTH,
    MAG_COLUMN,
    MAG_DENSITY,
    MAG_NEAR,
    MAG_ROW,
    SIG_ABOVE,
    SIG_ANY,
    SIG_COLUMN,
    SIG_DENSITY,
    SIG_NEAR,
    SIG_ROW,
    SIG_ROW_NEAR,
    SIG_SMOOTH,
    SIGN_ABOVE,
    SIGN_ANY,
    SIGN_COLUMN,
    SIGN_NEAR,
    SIGN_ROW,
    SIGN_SET,
)
from engine.tensor.compiled import inlined


class Matrix(NamedTuple):
    """Symbols (n,) and the sizes of those that were coded; rows of `columns`, images of `period` columns;
    magnitudes have `shift` low bits apart.
    """

    values: Table
    sizes: NDArray[np.uint8]
    columns: Number
    period: Number
    shift: Number


@inlined
def significance(
    start: State, history: Columns, near: Around, row: Number, j: Number, fullness: Number
) -> Eight:
    """Contexts of whether a symbol differs from the background."""
    alone, smooth = np.int64(history.alone[j]), np.int64(history.smooth[j])
    row_near = (min(near.left, 3) * 3 + min(near.left2, 2)) * 4 + min(near.up, 3)
    row_near = (row_near * 3 + min(near.corner, 2)) * 3 + min(near.corner2, 2)
    above = (alone * 4 + min(near.above, 3)) * 3 + min(near.above2, 2)
    return (
        np.uint32(start[SIG_COLUMN] + (j & (HASHED - 1))),
        np.uint32(start[SIG_ROW] + (row & (HASHED - 1))),
        np.uint32(start[SIG_DENSITY] + alone * 16 + fullness),
        np.uint32(start[SIG_ROW_NEAR] + row_near),
        np.uint32(start[SIG_ABOVE] + above),
        np.uint32(start[SIG_SMOOTH] + smooth * 16 + fullness),
        np.uint32(start[SIG_NEAR] + smooth * 16 + near.level),
        np.uint32(start[SIG_ANY]),
    )


@inlined
def sign_contexts(matrix: Matrix, start: State, row: Number, j: Number) -> tuple[Eight, Number]:
    """Contexts of whether a symbol is below the background, and its second row of mixing weights."""
    values, columns, period, i = matrix.values, matrix.columns, matrix.period, row * matrix.columns + j
    left, up = sign_at(values, i - 1, j >= 1), sign_at(values, i - period, j >= period)
    corner = sign_at(values, i - period + 1, j >= period)
    corner2 = sign_at(values, i - period - 1, j >= period + 1)
    above, above2 = sign_at(values, i - columns, row >= 1), sign_at(values, i - 2 * columns, row >= 2)
    contexts = (
        np.uint32(start[SIGN_COLUMN] + (j & (HASHED - 1))),
        np.uint32(start[SIGN_NEAR] + (left * 3 + up) * 9 + corner * 3 + corner2),
        np.uint32(start[SIGN_ABOVE] + (above * 3 + above2) * 3 + left),
        np.uint32(start[SIGN_ROW] + (row & (HASHED - 1))),
        np.uint32(start[SIGN_ANY]),
        np.uint32(start[SIGN_ANY]),
        np.uint32(start[SIGN_ANY]),
        np.uint32(start[SIGN_ANY]),
    )
    return contexts, SIGN_SET + 1 + left


@inlined
def size_contexts(
    start: State, near: Around, row: Number, j: Number, smooth: Number, means: Number, size: Number
) -> Eight:
    """Contexts of whether a magnitude is larger than `size`."""
    short = min(size, 4) - 1
    return (
        np.uint32(start[MAG_DENSITY] + np.int64(smooth) * 16 + size),
        np.uint32(start[MAG_ROW] + (row & (HASHED - 1)) * 4 + short),
        np.uint32(start[MAG_NEAR] + near.level * 16 + size),
        np.uint32(start[MAG_COLUMN] + (j & (HASHED - 1)) * 4 + short),
        np.uint32(start[MAG_ABOVE] + (min(near.above, 3) * 4 + min(near.left, 3)) * 16 + size),
        np.uint32(start[MAG_BOTH] + means * 4 + short),
        np.uint32(start[MAG_ANY] + size),
        np.uint32(start[MAG_ANY] + size),
    )
