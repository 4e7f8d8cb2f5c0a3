"""Compiled loop of the coder of floats: sign and exponent under adaptive counters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.mixing import (
    Mixer,
    Number,
    State,
    Table,
    adaptive_bit,
    fresh_counters,
    is_stuck,
)
from engine.tensor.compiled import compiled, inlined

SAME, SIGN, EXPONENT = 0, 2, 4  # where the counters of each start
PLACES = EXPONENT + 256


@compiled
def run(
    tops: Table, alike: NDArray[np.uint8], repeats: Number, coder: State, stream: NDArray[np.uint8]
) -> Number:
    """Code sign and exponent of all floats, (n,); the number that was coded.

    With `repeats`, `alike` says which are the repeated one: only the others have a place in `tops`.
    """
    mixer = Mixer(coder, stream, fresh_counters(PLACES), np.zeros((0, 0), np.int32))
    before = sign = k = 0
    for i in range(len(alike)):
        if repeats == 1:
            before = adaptive_bit(mixer, np.int64(alike[i]), SAME + before)
            alike[i] = before
        if before == 0:
            top = np.int64(tops[k])
            sign = adaptive_bit(mixer, top >> 8, SIGN + sign)
            tops[k] = (sign << 8) | coded_exponent(mixer, top & 255)
            k += 1
        if is_stuck(mixer):
            return i
    return len(alike)


@inlined
def coded_exponent(mixer: Mixer, exponent: Number) -> Number:
    """Eight bits from the top, each under a counter that knows those before."""
    node = 1
    for k in range(8):
        node = 2 * node + adaptive_bit(mixer, (exponent >> (7 - k)) & 1, EXPONENT + node)
    return node - 256
