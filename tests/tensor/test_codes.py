"""Bit packing, Huffman and range coding: hand-worked bytes, oracles, and round trips of any integers."""

from __future__ import annotations

import doctest
import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from engine.tensor import codes
from engine.tensor.codes import bits, counts

STREAMS = st.one_of(
    npst.arrays(np.int64, st.integers(0, 300), elements=st.integers(-3, 3)),
    npst.arrays(np.int64, st.integers(0, 300), elements=st.integers(-(1 << 33), 1 << 33)),
    npst.arrays(np.int64, st.integers(1, 2000), elements=st.integers(-9, 9), fill=st.just(0)),
    st.builds(
        lambda ones, zeros: np.repeat(np.array([1, 0]), [ones, zeros]),
        st.integers(0, 900),
        st.integers(0, 900),
    ),
)
COUNTS = npst.arrays(np.int64, st.integers(1, 80), elements=st.integers(1, 10**6))


def assert_comes_back(symbols: np.ndarray) -> bytes:
    coding, data = codes.encode(symbols)
    back = codes.decode(coding, data, len(symbols))
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, symbols)
    return data


def heap_lengths(counts: np.ndarray) -> int:
    """Total bits of a Huffman code by the textbook heap: each merge adds its weight."""
    heap = [int(c) for c in counts]
    heapq.heapify(heap)
    total = heap[0] if len(heap) == 1 else 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def test_docstring_examples_hold() -> None:
    results = [doctest.testmod(module) for module in (bits, counts)]
    assert sum(tried for _, tried in results) >= 5
    assert sum(failed for failed, _ in results) == 0


def test_five_bit_codes_by_hand() -> None:
    # 00001 11111 00010 -> 00001111 11000100 (one bit of padding)
    assert codes.pack_bits(np.array([1, 31, 2]), 5) == bytes([0b00001111, 0b11000100])
    np.testing.assert_array_equal(codes.unpack_bits(bytes([0b00001111, 0b11000100]), 5, 3), [1, 31, 2])


@given(st.integers(0, 32).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, (1 << b) - 1)))))
def test_bits_come_back_and_take_what_they_must(case: tuple[int, list[int]]) -> None:
    bits, values = case
    data = codes.pack_bits(np.array(values, np.int64), bits)
    assert len(data) == (len(values) * bits + 7) // 8
    np.testing.assert_array_equal(codes.unpack_bits(data, bits, len(values)), values)


@pytest.mark.parametrize("values", [[4], [-1], [0, 1 << 40]])
def test_a_value_that_does_not_fit_is_refused(values: list[int]) -> None:
    with pytest.raises(codes.CodeError, match="do not fit into 2 bits"):
        codes.pack_bits(np.array(values), 2)


@given(st.lists(st.integers(0, (1 << 56) - 1), max_size=150) | st.lists(st.integers(0, 300), min_size=64))
def test_varints_come_back(numbers: list[int]) -> None:
    data = codes.varints(numbers)
    back, offset = codes.read_varints(b"??" + data + b"\x05", len(numbers), 2)
    assert (back.tolist(), offset) == (numbers, 2 + len(data))


@given(COUNTS)
def test_entropy_is_scipys(counts: np.ndarray) -> None:
    expected = stats.entropy(counts, base=2) * counts.sum()
    assert codes.entropy_bits(counts) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_entropy_by_hand() -> None:
    # 1/2, 1/4, 1/8, 1/8: 1.75 bits a symbol
    assert codes.entropy_bits(np.array([4, 2, 1, 1])) == 14.0
    assert codes.entropy_bits(np.array([9])) == 0.0
    assert codes.entropy_bits(np.array([0, 0])) == 0.0


@given(COUNTS)
def test_huffman_is_optimal_and_a_prefix_code(counts: np.ndarray) -> None:
    lengths = codes.huffman_lengths(counts)
    total = int((lengths * counts).sum())
    assert total == heap_lengths(counts)
    if len(counts) > 1:
        assert sum(2.0 ** -int(n) for n in lengths) == 1.0  # Kraft's sum
        assert codes.entropy_bits(counts) <= total + 1e-6
    assert total < codes.entropy_bits(counts) + counts.sum() + 1e-6


def test_huffman_of_one_symbol_takes_one_bit_and_of_none_nothing() -> None:
    assert codes.huffman_lengths(np.array([7])).tolist() == [1]
    assert codes.huffman_lengths(np.array([], np.int64)).tolist() == []


@given(STREAMS)
@settings(max_examples=300)
def test_any_stream_comes_back_and_never_beats_its_own_models(symbols: np.ndarray) -> None:
    data = assert_comes_back(symbols)
    assert 8 * len(data) >= codes.ideal_bits(symbols) - 1e-6


@given(STREAMS)
def test_every_coding_comes_back_not_only_the_shortest(symbols: np.ndarray) -> None:
    view = codes.counted(symbols)
    options = [option for coder in codes.CODERS.values() for option in coder.options(view)]
    written = [(coding, least, make()) for least, coding, make in options]
    for coding, least, data in written:
        np.testing.assert_array_equal(codes.decode(coding, data, len(symbols)), symbols)
        assert len(data) >= least - 1e-6
    assert len(codes.encode(symbols)[1]) == min(len(data) for _, _, data in written)


def test_range_coding_comes_within_a_percent_of_the_entropy() -> None:
    rng = np.random.default_rng(3)
    symbols = np.round(rng.normal(0, 4, 100_000)).astype(np.int64)
    coding, data = codes.encode(symbols)
    ideal = codes.entropy_bits(codes.counted(symbols).counts) / 8
    assert coding == "entropy"
    assert ideal <= len(data) <= 1.01 * ideal


def test_gaps_win_where_zeros_come_in_runs() -> None:
    symbols = np.zeros(20_000, np.int64)
    symbols[5_000:5_400] = np.random.default_rng(0).integers(1, 9, 400)
    coding, data = codes.encode(symbols)
    assert coding == "sparse"
    # 400 survivors of 3 bits are 150 bytes; the mask alone would take 20,000 * H(0.02) / 8 = 353.
    assert len(data) < 200
    np.testing.assert_array_equal(codes.decode(coding, data, 20_000), symbols)


def test_one_symbol_takes_a_few_bytes_however_long() -> None:
    assert len(assert_comes_back(np.full(100_000, -7))) <= 5


def test_one_bit_signs_are_packed_at_one_bit() -> None:
    signs = np.where(np.random.default_rng(1).random(8000) < 0.5, -1, 1)
    assert 1000 <= len(assert_comes_back(signs)) <= 1012


@given(STREAMS, st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_damage_ends_in_one_kind_of_error_or_in_numbers(symbols: np.ndarray, random: object) -> None:
    coding, data = codes.encode(symbols)
    hurt = bytearray(data)
    for _ in range(random.randint(1, 3)):  # type: ignore[attr-defined]
        if hurt:
            hurt[random.randrange(len(hurt))] = random.randrange(256)  # type: ignore[attr-defined]
    try:
        back = codes.decode(coding, bytes(hurt), len(symbols))
    except codes.CodeError:
        return
    assert len(back) == len(symbols)


@given(STREAMS)
def test_a_cut_stream_is_never_taken_for_the_whole(symbols: np.ndarray) -> None:
    coding, data = codes.encode(symbols)
    if not data:
        return
    try:
        back = codes.decode(coding, data[:-1], len(symbols))
    except codes.CodeError:
        return
    assert not np.array_equal(back, symbols)


def test_an_unknown_coding_is_named() -> None:
    with pytest.raises(codes.CodeError, match="'pickle' is unknown; there are packed, entropy, sparse"):
        codes.decode("pickle", b"", 1)
