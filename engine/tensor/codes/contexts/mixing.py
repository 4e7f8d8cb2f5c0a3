"""Adaptive bits: predictions of several contexts mixed in the logistic domain, and a binary range coder.

Whole numbers only, so that encoder and decoder agree on every processor (after lpaq, Mahoney 2007).
A probability has 16 bits. Stretch is ln(p / (1 - p)) in steps of 1/256, from -12 to 12; squash undoes it.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tensor.compiled import compiled, inlined

Table = NDArray[Any]  # whole numbers of 32 bits; what is read from it is widened
State = NDArray[Any]  # of 64 bits
Number = Any  # int in Python, 64 bits compiled
Eight = tuple[Number, Number, Number, Number, Number, Number, Number, Number]

ONE = 1 << 16  # probability 1
FINE = 22  # bits of a counter's probability
STEPS = 256  # of the stretched domain, for one nat
REACH = 12 * STEPS - 1
SLOWEST = 255  # a counter's rate falls to 1 / (SLOWEST + 1.5)
LEARNED = 200  # what a lone counter counts to
AGE = 8  # low bits of a counter: how often it was seen, up to SLOWEST
INPUTS = 8  # at most, mixed for one bit
SPEEDS = np.array([6 + 1200 // (age + 40) for age in range(1200)], np.int32)  # of mixing weights, by age
LOW, HIGH, CODE, PLACE, ENCODING = range(5)  # of the coder's state
MARGIN = 512  # bytes that one symbol cannot fill
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


# Compiled in as constants, narrow ones: they share the processor's first cache with the counters.
STRETCH, RATE, TRUST = stretch_table().astype(np.int16), rate_table(), trust_table().astype(np.int16)
CHANCE = SQUASH.astype(np.uint16)
LENGTHS = -np.log2(
    np.maximum(np.arange(ONE + 1), 0.5) / ONE
)  # bits that an event of a 16-bit probability takes


class Mixer(NamedTuple):
    """All that learns, and where its bits go.

    `state` is the range coder's; `counters` (n,) hold a probability of FINE bits above AGE bits of how often
    each was seen; `weights` (sets, INPUTS + 1) mix, and count their bits behind.
    """

    state: State
    stream: NDArray[np.uint8]
    counters: Table
    weights: Table


@inlined
def fresh_counters(count: Number) -> Table:
    """So many counters at one half, never seen."""
    return np.full(count, 1 << (FINE - 1 + AGE), np.int32)


@inlined
def fresh_weights(sets: Number) -> Table:
    """Mixing weights before the first bit: all inputs alike."""
    weights = np.full((sets, INPUTS + 1), 20000, np.int32)
    weights[:, INPUTS] = 0
    return weights


@inlined
def is_stuck(mixer: Mixer) -> Number:
    """Whether a reader is past the end, or a writer could not write another symbol."""
    place = mixer.state[PLACE]
    return place < 0 or (mixer.state[ENCODING] == 1 and place + MARGIN > len(mixer.stream))


@inlined
def code_bit(mixer: Mixer, bit: Number, one: Number) -> Number:
    """Write `bit`, or read one: `one` is the probability of a 1. A reader past the end sets PLACE to -1."""
    coder, stream = mixer.state, mixer.stream
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


@inlined
def predictions(counters: Table, contexts: Eight) -> Eight:
    """What each context's counter says of the next bit, stretched."""
    return (
        predicted(counters[contexts[0]]),
        predicted(counters[contexts[1]]),
        predicted(counters[contexts[2]]),
        predicted(counters[contexts[3]]),
        predicted(counters[contexts[4]]),
        predicted(counters[contexts[5]]),
        predicted(counters[contexts[6]]),
        predicted(counters[contexts[7]]),
    )


@inlined
def length_of(mixer: Mixer, bit: Number, contexts: Eight, first: Number, second: Number) -> Number:
    """How many bits `mixed_bit` would take for this one; nothing learns from it."""
    inputs = predictions(mixer.counters, contexts)
    one = mixed(inputs, mixer.weights[np.uint32(first)])
    two = mixed(inputs, mixer.weights[np.uint32(second)])
    chance = squashed((one + two) >> 1)
    return LENGTHS[np.uint32(chance if bit == 1 else ONE - chance)]


@inlined
def mixed_bit(mixer: Mixer, bit: Number, contexts: Eight, first: Number, second: Number) -> Number:
    """One bit under INPUTS contexts, mixed by two rows of `weights`; every part learns from it."""
    counters, weights = mixer.counters, mixer.weights
    inputs = predictions(counters, contexts)
    one = mixed(inputs, weights[np.uint32(first)])
    two = mixed(inputs, weights[np.uint32(second)])
    bit = code_bit(mixer, bit, squashed((one + two) >> 1))
    learn(weights[np.uint32(first)], inputs, (bit << 16) - squashed(one))
    learn(weights[np.uint32(second)], inputs, (bit << 16) - squashed(two))
    for k in range(INPUTS):
        counters[contexts[k]] = moved(counters[contexts[k]], bit)
    return bit


@compiled
def squashed(stretched: Number) -> Number:
    return np.int64(CHANCE[np.uint32(stretched + REACH)])


@compiled
def predicted(counter: Number) -> Number:
    """A counter's stretched probability, as far as it is believed."""
    stretched = STRETCH[np.uint32(counter) >> np.uint32(FINE - 16 + AGE)]
    return np.int64((np.int32(stretched) * np.int32(TRUST[np.uint32(counter) & np.uint32(SLOWEST)])) >> 8)


@compiled
def moved(counter: Number, bit: Number) -> Number:
    """A counter after a bit: the more it has seen, the less it moves."""
    seen, chance = np.int64(counter) & SLOWEST, np.int64(counter) >> AGE
    chance += (((bit << FINE) - bit - chance) * np.int64(RATE[np.uint32(seen)])) >> 16
    return (chance << AGE) | min(seen + 1, SLOWEST)


@inlined
def mixed(inputs: Eight, weights: Table) -> Number:
    """The weighted sum of stretched predictions, within REACH."""
    total = np.int64(0)
    for k in range(INPUTS):
        total += inputs[k] * np.int64(weights[k])
    return min(max(total >> 16, -REACH), REACH)


@inlined
def learn(weights: Table, inputs: Eight, error: Number) -> None:
    """Move mixing weights down the gradient of the bit's length; the place behind them counts the bits."""
    age = np.int64(weights[INPUTS])
    weights[INPUTS] = min(age + 1, len(SPEEDS) - 1)
    step = error * np.int64(SPEEDS[np.uint32(age)])
    for k in range(INPUTS):
        weights[k] += (inputs[k] * step + (1 << 17)) >> 18


@inlined
def adaptive_bit(mixer: Mixer, bit: Number, place: Number) -> Number:
    """One bit under one counter."""
    counters = mixer.counters
    chance, seen = np.int64(counters[place]) >> AGE, np.int64(counters[place]) & SLOWEST
    bit = code_bit(mixer, bit, min(max(chance >> (FINE - 16), 32), ONE - 32))
    chance += ((bit << FINE) - bit - chance) * 2 // (2 * seen + 3)
    counters[place] = (chance << AGE) | min(seen + 1, LEARNED)
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


def last_bytes(coder: State) -> bytes:
    """The fewest bytes that lie between the coder's ends where zeros follow, as a reader supposes."""
    low, high = int(coder[LOW]), int(coder[HIGH])
    for count in range(4):
        kept = high >> (32 - 8 * count) << (32 - 8 * count)
        if kept >= low:
            return (kept >> (32 - 8 * count)).to_bytes(count, "big")
    return high.to_bytes(4, "big")
