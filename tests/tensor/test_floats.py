"""The coder of floats: all bits come back, its bytes are near the ideal length, damage is refused."""

from __future__ import annotations

import doctest
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tensor.codes import CodeError, floats


def written(values: np.ndarray) -> bytes:
    return floats.encode(values.astype(np.float32))


def assert_comes_back(patterns: np.ndarray) -> None:
    back = floats.decode(floats.encode(patterns.view(np.float32)), len(patterns))
    np.testing.assert_array_equal(back.view(np.uint32), patterns)


def test_docstring_examples_hold() -> None:
    failed, tried = doctest.testmod(floats)
    assert (failed, tried > 0) == (0, True)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(0, 23), st.integers(0, 60))
@settings(max_examples=500, deadline=None)
def test_any_bits_come_back(numbers: list[int], zeros: int, repeats: int) -> None:
    found = np.array(numbers, np.uint32) >> np.uint32(zeros) << np.uint32(zeros)
    assert_comes_back(np.concatenate([found, np.repeat(found[:1], repeats)]))


@pytest.mark.parametrize("zeros", [0, 7, 13, 21, 23])
@pytest.mark.parametrize("n", [floats.LONG - 1, floats.LONG, 3 * floats.LONG + 5])
def test_streams_short_and_long_come_back(n: int, zeros: int) -> None:
    noise = np.random.default_rng(n).normal(size=n).astype(np.float32).view(np.uint32)
    assert_comes_back(noise >> np.uint32(zeros) << np.uint32(zeros))


def test_a_stream_longer_than_a_block_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(np.random.default_rng(0).normal(size=5000))
    monkeypatch.setattr(floats, "blocks", lambda n: (slice(i, i + 64) for i in range(0, n, 64)))
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    assert floats.encode(values) == whole
    np.testing.assert_array_equal(floats.decode(whole, 5000), values)


def test_infinities_and_signs_of_nothing_come_back() -> None:
    assert_comes_back(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45], np.float32).view(np.uint32))


def test_a_short_stream_takes_its_mantissas_and_about_the_entropy_of_what_is_before() -> None:
    values = np.random.default_rng(0).normal(size=400).astype(np.float32)
    _, counts = np.unique(values.view(np.uint32) >> 23, return_counts=True)
    ideal = float(-(counts * np.log2(counts / 400)).sum()) / 8 + 400 * 23 / 8
    assert len(floats.encode(values)) < 1.02 * ideal < 0.85 * 1600


def test_a_number_that_is_repeated_costs_a_decision_each() -> None:
    values = np.random.default_rng(0).normal(size=300).astype(np.float32)
    some = values.copy()
    some[100:] = 0.25
    assert len(floats.encode(some)) < len(floats.encode(values[:100])) + 25
    assert_comes_back(some.view(np.uint32))


def test_numbers_of_sixteen_bits_take_no_more_than_two_bytes() -> None:
    values = np.random.default_rng(0).normal(size=300).astype(np.float16).astype(np.float32)
    assert len(floats.encode(values)) < 600


@pytest.mark.parametrize("n", [50, 6000])
def test_damage_is_refused_or_gives_as_many_numbers(n: int) -> None:
    whole, rng = written(np.random.default_rng(1).normal(size=n)), np.random.default_rng(2)
    for _ in range(500):
        data = bytearray(whole)
        data[int(rng.integers(min(len(data), 400)))] ^= int(rng.integers(1, 256))
        try:
            assert floats.decode(bytes(data), n).shape == (n,)
        except CodeError:
            continue
    for cut in range(0, len(whole), 7):
        with pytest.raises(CodeError):
            floats.decode(whole[:cut], n)


@pytest.mark.parametrize("head", [(4, 0, 0, 0), (0, 4, 0, 0), (2, 3, 21, 0), (0, 0, 0, 99), (1, 0, 0, 1)])
def test_a_head_that_cannot_be_is_refused(head: tuple[int, ...]) -> None:
    with pytest.raises(CodeError):
        floats.decode(struct.pack("4B", *head), 3)
