"""Adaptive bits: predictions of several contexts mixed in the logistic domain, and a binary range coder.

Whole numbers only, so that encoder and decoder agree on every processor (after lpaq, Mahoney 2007).
A probability has 16 bits. Stretch is ln(p / (1 - p)) in steps of 1/256, from -12 to 12; squash undoes it.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.contexts.compiled import compiled

Table = NDArray[Any]  # whole numbers of 32 bits; what is read from it is widened
State = NDArray[Any]  # of 64 bits
Number = Any  # int in Python, 64 bits compiled

ONE = 1 << 16  # probability 1
FINE = 22  # bits of a counter's probability
STEPS = 256  # of the stretched domain, for one nat
REACH = 12 * STEPS - 1
SLOWEST = 255  # a counter's rate falls to 1 / (SLOWEST + 1.5)
INPUTS = 8  # at most, mixed for one bit
SPEEDS = np.array([6 + 1200 // (age + 40) for age in range(1200)], np.int64)  # of mixing weights, by age
LOW, HIGH, CODE, PLACE, ENCODING = range(5)  # of the coder's state
EXTRA = 4  # bytes that the decoder reads behind the end of its stream at most


def squash_table() -> Table:
    """Probability (16 bits) of each stretched value; decimal arithmetic rounds alike everywhere."""
    with localcontext() as context:
        context.prec = 30
        places = range(-REACH, REACH + 1)
        exact = [ONE / (1 + (Decimal(-place) / STEPS).exp()) for place in places]
        rounded = [min(max(int(p.to_integral_value()), 1), ONE - 1) for p in exact]
    return np.array(rounded, np.int32)


SQUASH = squash_table()


def stretch_table() -> Table:
    """Stretched value of each 16-bit probability: the first whose squash reaches it."""
    places = np.searchsorted(SQUASH, np.arange(ONE)) - REACH
    return np.clip(places, -REACH, REACH).astype(np.int32)


def rate_table() -> Table:
    """What a counter seen n times moves towards a bit, in 1/65536: 1 / (n + 1.5)."""
    return (2 * ONE // (2 * np.arange(SLOWEST + 1) + 3)).astype(np.int32)


def trust_table() -> Table:
    """How much a counter seen n times is believed, in 1/256: (n + 0.3) / (n + 1.5) roughly."""
    seen = np.arange(SLOWEST + 1)
    return ((10 * seen + 2) * 256 // (10 * seen + 16)).astype(np.int32)


# Compiled in as constants.
STRETCH, RATE, TRUST = stretch_table(), rate_table(), trust_table()


@compiled
def code_bit(coder: State, stream: NDArray[np.uint8], bit: Number, one: Number) -> Number:
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
    bit: Number,
    contexts: State,
    chance: Table,
    seen: Table,
    weights: Table,
    first: Number,
    second: Number,
    inputs: Table,
) -> Number:
    """One bit under INPUTS contexts, mixed by two rows of `weights`; every part learns from it."""
    for k in range(INPUTS):
        place = contexts[k]
        inputs[k] = (STRETCH[chance[place] >> (FINE - 16)] * TRUST[seen[place]]) >> 8
    one = mixed(inputs, weights, first)
    two = mixed(inputs, weights, second)
    bit = code_bit(coder, stream, bit, np.int64(SQUASH[((one + two) >> 1) + REACH]))
    learn(weights, first, inputs, (bit << 16) - np.int64(SQUASH[one + REACH]))
    learn(weights, second, inputs, (bit << 16) - np.int64(SQUASH[two + REACH]))
    top = (bit << FINE) - bit
    for k in range(INPUTS):
        place = contexts[k]
        n = np.int64(seen[place])
        chance[place] += ((top - np.int64(chance[place])) * RATE[n]) >> 16
        seen[place] = min(n + 1, SLOWEST)
    return bit


@compiled
def mixed(inputs: Table, weights: Table, row: Number) -> Number:
    """The weighted sum of stretched predictions, within REACH."""
    total = np.int64(0)
    for k in range(INPUTS):
        total += np.int64(inputs[k]) * np.int64(weights[row, k])
    return min(max(total >> 16, -REACH), REACH)


@compiled
def learn(weights: Table, row: Number, inputs: Table, error: Number) -> None:
    """Move mixing weights down the gradient of the bit's length; the place behind them counts the bits."""
    age = np.int64(weights[row, INPUTS])
    weights[row, INPUTS] = min(age + 1, len(SPEEDS) - 1)
    step = error * SPEEDS[age]
    for k in range(INPUTS):
        weights[row, k] += (np.int64(inputs[k]) * step + (1 << 17)) >> 18


def last_bytes(coder: State) -> bytes:
    """The fewest bytes that lie between the coder's ends where zeros follow, as a reader supposes."""
    low, high = int(coder[LOW]), int(coder[HIGH])
    for count in range(4):
        kept = high >> (32 - 8 * count) << (32 - 8 * count)
        if kept >= low:
            return (kept >> (32 - 8 * count)).to_bytes(count, "big")
    return high.to_bytes(4, "big")
