"""Huffman codes: as short as the best, a whole tree, and every stream comes back or is refused."""

from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest
import torch
from dahuffman import HuffmanCodec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.figures import coding
from engine.tensor.codes import CodeError, huffman, huffman_lengths
from engine.tensor.formats import Codebook, Dense

COUNTS = st.lists(st.integers(1, 2000), min_size=2, max_size=60).map(np.array)


def test_docstring_examples_hold() -> None:
    for module in (huffman, coding):
        failed, tried = doctest.testmod(module)
        assert (failed, tried > 0) == (0, True)


def depths(counts: np.ndarray) -> np.ndarray:
    """Of each leaf in the tree that `merges` grows."""
    found, depth = huffman.merges(counts), np.zeros(2 * len(counts) - 1, int)
    for i, merge in reversed(list(enumerate(found))):
        depth[[merge.left, merge.right]] = depth[len(counts) + i] + 1
    return depth[: len(counts)]


@given(COUNTS)
@settings(max_examples=200, deadline=None)
def test_lengths_are_those_of_a_whole_best_tree(counts: np.ndarray) -> None:
    lengths = huffman_lengths(counts)
    assert (0.5**lengths).sum() == 1.0
    # Two ways of breaking ties give other lengths and the same sum: the sum of all merged counts.
    best = sum(merge.count for merge in huffman.merges(counts))
    assert int((counts * lengths).sum()) == int((counts * depths(counts)).sum()) == best


@given(COUNTS)
@settings(max_examples=100, deadline=None)
def test_codes_are_as_short_as_dahuffmans(counts: np.ndarray) -> None:
    table = HuffmanCodec.from_frequencies(dict(enumerate(counts.tolist()))).get_code_table()
    theirs = sum(bits * int(counts[x]) if isinstance(x, int) else bits for x, (bits, _) in table.items())
    whole = np.append(counts, 1)  # theirs has an end of the stream, once
    assert int((whole * huffman_lengths(whole)).sum()) == theirs


@given(COUNTS)
@settings(max_examples=100, deadline=None)
def test_no_canonical_code_begins_another(counts: np.ndarray) -> None:
    lengths = huffman_lengths(counts)
    words = sorted(f"{c:0{n}b}" for c, n in zip(huffman.canonical(lengths), lengths, strict=True))
    assert not [a for a, b in pairwise(words) if b.startswith(a)]


@given(st.lists(st.integers(-(10**6), 10**6) | st.integers(-2, 2), max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_stream_comes_back(symbols: list[int]) -> None:
    data = huffman.encode(np.array(symbols, np.int64))
    assert huffman.decode(data, len(symbols)).tolist() == symbols


def test_damage_is_refused_or_gives_as_many_numbers() -> None:
    rng = np.random.default_rng(0)
    symbols = rng.geometric(0.4, 500)
    whole = huffman.encode(symbols)
    for _ in range(500):
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        try:
            assert len(huffman.decode(bytes(data), 500)) == 500
        except CodeError:
            continue
    for cut in range(len(whole)):
        with pytest.raises(CodeError):
            huffman.decode(whole[:cut], 500)


def test_the_papers_sixteen_weights_fall_from_512_to_160_bits() -> None:
    """Han 2016, figure 3: four values of 32 bits, and two bits for each of 16 weights."""
    codes = torch.tensor([[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]], dtype=torch.int32)
    book = Codebook(codes, torch.tensor([-1.0, 0.0, 1.5, 2.0]))
    assert (Dense(book.decode()).fixed_bits(), book.fixed_bits()) == (512, 160)


def test_no_coder_that_looks_at_one_symbol_is_below_the_entropy_and_contexts_may_be() -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((1, 400)) ** 4
    zeros = (rng.random((300, 400)) < dense / 4).astype(np.uint8)
    rows = coding.compared(coding.Stream(zeros.reshape(-1), 400, "map")).set_index("coder")
    floor = rows.loc["entropy, order 0", "bytes"]
    assert rows.loc["Huffman", "bits"] >= 1
    assert floor <= rows.loc["range coder", "bytes"] <= 1.01 * floor + 16
    assert rows.loc["adaptive contexts", "bytes"] < 0.95 * floor
    assert rows.loc["Huffman", "bytes"] > rows.loc["range coder", "bytes"]
