"""Where the counters and mixing weights of each context start, and how many there are."""

from __future__ import annotations

import numpy as np

from engine.tensor.codes.contexts.mixing import State

UNARY = 14  # magnitudes above are coded in groups of bits
GROUPS = 20  # of them at most: a distance has no more bits
HASHED = 1 << 16  # rows and columns with counters of their own; later ones share them
# Counters: `starts` has the first of each.
SIG_COLUMN, SIG_ROW, SIG_DENSITY, SIG_ROW_NEAR, SIG_ABOVE, SIG_SMOOTH, SIG_NEAR, SIG_ANY = range(8)
SIGN_COLUMN, SIGN_NEAR, SIGN_ABOVE, SIGN_ROW, SIGN_ANY = range(8, 13)
MAG_DENSITY, MAG_ROW, MAG_NEAR, MAG_COLUMN, MAG_ABOVE, MAG_BOTH, MAG_ANY = range(13, 20)
REST, LOW_BITS = 20, 21
# Rows of mixing weights.
SIG_SET, ROW_SET, SIGN_SET, MAG_SET, NEAR_SET = 0, 16, 32, 36, 52
SETS = 68


def starts(rows: int, columns: int) -> State:
    """Where each context's counters start, and how many there are in all."""
    few_rows, few_columns = min(rows, HASHED), min(columns, HASHED)
    significance = [few_columns, few_rows, 24 * 16, 4 * 3 * 4 * 3 * 3, 24 * 12, 24 * 16, 24 * 16, 1]
    sign = [few_columns, 81, 27, few_rows, 1]
    magnitude = [24 * 16, few_rows * 4, 16 * 16, few_columns * 4, 4 * 4 * 16, 16 * 16 * 4, 16]
    alone = [GROUPS * (GROUPS + 1), 4 * 64]
    return np.concatenate([[0], np.cumsum(significance + sign + magnitude + alone)]).astype(np.int64)
