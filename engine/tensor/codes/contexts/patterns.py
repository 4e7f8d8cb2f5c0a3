"""Compiled loop of the coder of floats: sign and exponent under adaptive counters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.compiled import compiled
from engine.tensor.codes.contexts.mixing import ENCODING, FINE, PLACE, Number, State, Table
from engine.tensor.codes.contexts.model import MARGIN, adaptive_bit

SAME, SIGN, EXPONENT = 0, 2, 4  # where the counters of each start
PLACES = EXPONENT + 256


@compiled
def run(
    tops: Table, alike: NDArray[np.uint8], repeats: Number, coder: State, stream: NDArray[np.uint8]
) -> Number:
    """Code sign and exponent of all floats, (n,); the number that was coded.

    With `repeats`, `alike` says which are the repeated one: only the others have a place in `tops`.
    """
    chance = np.full(PLACES, 1 << (FINE - 1), np.int32)
    seen = np.zeros(PLACES, np.int32)
    before = sign = k = 0
    for i in range(len(alike)):
        if repeats == 1:
            before = adaptive_bit(coder, stream, np.int64(alike[i]), SAME + before, chance, seen)
            alike[i] = before
        if before == 0:
            top = np.int64(tops[k])
            sign = adaptive_bit(coder, stream, top >> 8, SIGN + sign, chance, seen)
            tops[k] = (sign << 8) | coded_exponent(coder, stream, top & 255, chance, seen)
            k += 1
        if coder[PLACE] < 0 or (coder[ENCODING] == 1 and coder[PLACE] + MARGIN > len(stream)):
            return i
    return len(alike)


@compiled
def coded_exponent(
    coder: State, stream: NDArray[np.uint8], exponent: Number, chance: Table, seen: Table
) -> Number:
    """Eight bits from the top, each under a counter that knows those before."""
    node = 1
    for k in range(8):
        bit = (exponent >> (7 - k)) & 1
        node = 2 * node + adaptive_bit(coder, stream, bit, EXPONENT + node, chance, seen)
    return node - 256
