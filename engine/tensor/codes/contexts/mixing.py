"""Adaptive bits: predictions of several contexts mixed in the logistic domain, and a binary range coder.

Whole numbers only, so that encoder and decoder agree on every processor (after lpaq, Mahoney 2007).
A probability has 16 bits. Stretch is ln(p / (1 - p)) in steps of 1/256, from -12 to 12; squash undoes it.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.compiled import compiled

Table = NDArray[np.int32]
State = NDArray[np.int64]
Tables = tuple[Table, Table, Table, Table]

ONE = 1 << 16  # probability 1
FINE = 22  # bits of a counter's probability
STEPS = 256  # of the stretched domain, for one nat
REACH = 12 * STEPS - 1
SLOWEST = 255  # a counter's rate falls to 1 / (SLOWEST + 1.5)
INPUTS = 8  # at most, mixed for one bit
LOW, HIGH, CODE, PLACE, ENCODING = range(5)  # of the coder's state
EXTRA = 4  # bytes that the decoder reads behind the end of its stream at most


@cache
def squash_table() -> Table:
    """Probability (16 bits) of each stretched value; decimal arithmetic rounds alike everywhere."""
    with localcontext() as context:
        context.prec = 30
        places = range(-REACH, REACH + 1)
        exact = [ONE / (1 + (Decimal(-place) / STEPS).exp()) for place in places]
        rounded = [min(max(int(p.to_integral_value()), 1), ONE - 1) for p in exact]
    return np.array(rounded, np.int32)


@cache
def stretch_table() -> Table:
    """Stretched value of each 16-bit probability: the first whose squash reaches it."""
    places = np.searchsorted(squash_table(), np.arange(ONE)) - REACH
    return np.clip(places, -REACH, REACH).astype(np.int32)


@cache
def rate_table() -> Table:
    """What a counter seen n times moves towards a bit, in 1/65536: 1 / (n + 1.5)."""
    return (2 * ONE // (2 * np.arange(SLOWEST + 1) + 3)).astype(np.int32)


@cache
def trust_table() -> Table:
    """How much a counter seen n times is believed, in 1/256: (n + 0.3) / (n + 1.5) roughly."""
    seen = np.arange(SLOWEST + 1)
    return ((10 * seen + 2) * 256 // (10 * seen + 16)).astype(np.int32)


@compiled
def code_bit(coder: State, stream: NDArray[np.uint8], bit: int, one: int) -> int:
    """Write `bit`, or read one: `one` is the probability of a 1. A reader past the end sets PLACE to -1."""
    low, high = coder[LOW], coder[HIGH]
    middle = low + ((high - low) * one >> 16)
    if coder[ENCODING] == 0:
        bit = 1 if coder[CODE] <= middle else 0
    if bit == 1:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> 24 == 0:
        place = coder[PLACE]
        if coder[ENCODING] == 1:
            stream[place] = high >> 24
        elif place >= len(stream) + EXTRA or place < 0:
            coder[PLACE] = -2
        else:
            byte = np.int64(stream[place]) if place < len(stream) else 0
            coder[CODE] = ((coder[CODE] << 8) & 0xFFFFFFFF) | byte
        coder[PLACE] += 1
        low = (low << 8) & 0xFFFFFFFF
        high = ((high << 8) & 0xFFFFFFFF) | 255
    coder[LOW], coder[HIGH] = low, high
    return bit


@compiled
def mixed_bit(
    coder: State,
    stream: NDArray[np.uint8],
    bit: int,
    contexts: State,
    count: int,
    chance: Table,
    seen: Table,
    weights: State,
    first: int,
    second: int,
    tables: Tables,
    inputs: State,
) -> int:
    """One bit under `count` contexts, mixed by two rows of `weights`; every part learns from it."""
    stretch, squash, rate, trust = tables
    one_sum = 0
    two_sum = 0
    for k in range(count):
        place = contexts[k]
        value = stretch[chance[place] >> (FINE - 16)] * trust[seen[place]] >> 8
        inputs[k] = value
        one_sum += value * weights[first, k]
        two_sum += value * weights[second, k]
    dot_one = min(max(one_sum >> 16, -REACH), REACH)
    dot_two = min(max(two_sum >> 16, -REACH), REACH)
    p_one, p_two = squash[dot_one + REACH], squash[dot_two + REACH]
    bit = code_bit(coder, stream, bit, squash[((dot_one + dot_two) >> 1) + REACH])
    learn(weights, first, inputs, count, (bit << 16) - p_one)
    learn(weights, second, inputs, count, (bit << 16) - p_two)
    for k in range(count):
        place = contexts[k]
        n = seen[place]
        chance[place] += np.int32((((bit << FINE) - bit - chance[place]) * np.int64(rate[n])) >> 16)
        if n < SLOWEST:
            seen[place] = n + 1
    return bit


@compiled
def learn(weights: State, row: int, inputs: State, count: int, error: int) -> None:
    """Move a row of mixing weights down the gradient of the bit's length; its last place counts its bits."""
    age = weights[row, INPUTS]
    speed = 6 + 1200 // (age + 40)
    if age < 100000:
        weights[row, INPUTS] = age + 1
    for k in range(count):
        weights[row, k] += (inputs[k] * error * speed + (1 << 17)) >> 18


def last_bytes(coder: State) -> bytes:
    """The fewest bytes that lie between the coder's ends, zeros behind them; a reader takes them for zeros."""
    low, high = int(coder[LOW]), int(coder[HIGH])
    for count in range(4):
        kept = high >> (32 - 8 * count) << (32 - 8 * count)
        if kept >= low:
            return (kept >> (32 - 8 * count)).to_bytes(count, "big")
    return high.to_bytes(4, "big")
