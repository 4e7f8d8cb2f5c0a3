"""The context coder: any matrix comes back, its bytes are its own model's ideal length, damage is refused."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tensor import codes
from engine.tensor.codes import context, varints
from engine.tensor.codes.alphabet import by_span, table
from engine.tensor.codes.contexts import history, mixing, model
from engine.tensor.codes.contexts.mixing import ONE, REACH, SQUASH, STRETCH
from engine.tensor.codes.counts import counted

CODER = context.CONTEXT


def matrix(seed: int, shape: tuple[int, int], share: float, spread: float) -> np.ndarray:
    """Whole numbers with rows, columns and places that are denser than others."""
    rng = np.random.default_rng(seed)
    dense = rng.random((shape[0], 1)) ** 2 * rng.random((1, shape[1])) ** 2 * 9 * share
    values = np.round(rng.laplace(0, spread, shape)).astype(np.int64)
    return np.where(rng.random(shape) < dense, values, 0)


def written(symbols: np.ndarray, columns: int) -> bytes:
    return context._encode(counted(symbols.reshape(-1), columns))


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(2, 60)))
    share, spread = (
        draw(st.sampled_from([0.01, 0.1, 0.5, 20.0])),
        draw(st.sampled_from([0.7, 4.0, 90.0, 3e4])),
    )
    symbols = matrix(draw(st.integers(0, 10**6)), shape, share, spread) + draw(st.integers(-9, 9))
    symbols[0, 0], symbols[-1, -1] = symbols.min() - 1, symbols.max() + 1  # never one symbol alone
    return symbols, draw(st.sampled_from([shape[1], symbols.size, min(7, symbols.size), 1]))


def test_docstring_examples_hold() -> None:
    failed, tried = doctest.testmod(context)
    assert (failed, tried > 0) == (0, True)


@given(matrices())
@settings(max_examples=600, deadline=None)
def test_any_matrix_comes_back(case: tuple[np.ndarray, int]) -> None:
    symbols, columns = case
    back = CODER.decode(written(symbols, columns), symbols.size)
    np.testing.assert_array_equal(back, symbols.reshape(-1))


def test_the_tables_are_the_logistic_function_and_its_inverse() -> None:
    places = np.arange(-REACH, REACH + 1)
    exact = ONE / (1 + np.exp(-places / 256))
    assert np.abs(SQUASH - np.clip(exact, 1, ONE - 1)).max() <= 0.5 + 1e-9
    p = np.arange(1, ONE) / ONE
    inside = np.abs(np.log(p / (1 - p))) < 7
    assert np.abs(STRETCH[1:] / 256 - np.log(p / (1 - p)))[inside].max() < 0.02


def in_python(monkeypatch: pytest.MonkeyPatch, lengths: list[float]) -> None:
    """The inner loops as Python; each coded bit adds what it should take to `lengths`, in floating point."""
    plain = mixing.code_bit.py_func  # type: ignore[attr-defined]

    def recorded(mixer: mixing.Mixer, bit: int, one: int) -> int:
        found = plain(mixer, bit, one)
        lengths.append(-math.log2(one / ONE if found else 1 - one / ONE))
        return found  # type: ignore[no-any-return]

    for module in (history, mixing, model):
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, recorded if name == "code_bit" else value.py_func)


@pytest.mark.parametrize(("share", "spread"), [(0.05, 1.5), (0.4, 3.0), (20.0, 40.0)])
def test_bytes_are_within_a_percent_of_the_models_ideal_and_the_same_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, share: float, spread: float
) -> None:
    symbols = matrix(1, (60, 64), share, spread)
    data, lengths = written(symbols, 64), list[float]()
    in_python(monkeypatch, lengths)
    assert written(symbols, 64) == data
    ideal = sum(lengths) / 8
    assert ideal <= len(data) <= 1.01 * ideal + 16  # the head has 12 bytes
    np.testing.assert_array_equal(CODER.decode(data, symbols.size), symbols.reshape(-1))


def test_rows_and_columns_take_it_below_the_order_0_entropy() -> None:
    symbols = matrix(0, (200, 300), 0.1, 2.0)
    coder, data = codes.encode(symbols.reshape(-1), 300)
    assert coder == "context"
    assert 8 * len(data) < 0.95 * codes.ideal_bits(symbols.reshape(-1))


def test_a_long_stream_in_which_contexts_say_nothing_is_not_offered() -> None:
    noise = np.random.default_rng(0).integers(0, 16, 1 << 19)
    assert CODER.options(counted(noise, 1 << 10)) == []


WHOLE = matrix(2, (30, 40), 0.3, 3.0).reshape(-1)
HURT = written(matrix(2, (30, 40), 0.3, 3.0), 40)


def test_two_thousand_mutations_end_in_an_error_or_in_numbers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        data = bytearray(HURT)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            back = CODER.decode(bytes(data), 1200)
        except codes.CodeError:
            continue
        assert len(back) == 1200


def test_no_cut_is_taken_for_the_whole_and_every_tail_is_refused() -> None:
    for length in range(len(HURT)):
        try:
            back = CODER.decode(HURT[:length], 1200)
        except codes.CodeError:
            continue
        assert not np.array_equal(back, WHOLE)
    with pytest.raises(codes.CodeError, match="damaged or cut off"):
        CODER.decode(HURT + b"\1", 1200)


def test_a_short_stream_that_announces_many_symbols_ends_early() -> None:
    head = table(by_span(counted(np.array([0, 1, 2]))), 0) + varints([1, 1 << 10, 32, 128, 0])
    with pytest.raises(codes.CodeError, match=r"damaged or cut off at symbol \d{1,7}$"):
        CODER.decode(head + b"\x55" * 20, 1 << 26)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ([3, 40, 28, 9, 0], "alphabet of 3 symbols"),
        ([1, 0, 28, 9, 0], "rows of 0 symbols"),
        ([1, 1 << 21, 28, 9, 0], "rows of 2097152 symbols"),
        ([1, 40, 1, 9, 0], "period of 1 do not fit"),
        ([1, 40, 42, 9, 0], "period of 42 do not fit"),
        ([1, 40, 28, 0, 0], "share of 0/256"),
        ([1, 40, 28, 9, 19], "19 low bits"),
    ],
)
def test_settings_that_cannot_be_are_named(settings_: list[int], message: str) -> None:
    head = table(by_span(counted(np.array([0, 1, 2]))), 0)
    with pytest.raises(codes.CodeError, match=message):
        CODER.decode(head + varints(settings_) + b"\x55" * 20, 1200)


# ---------------------------------------------------------------- codes that have a price


def cost(codes: np.ndarray, bits: int, ratios: np.ndarray, worths: np.ndarray, price: float) -> float:
    return float((worths * (ratios - codes) ** 2).sum()) + price * bits


@pytest.mark.parametrize("wide", [1.0, 6.0, 60.0])  # sizes in unary, in groups of bits, with low bits apart
@pytest.mark.parametrize("price", [0.05, 0.3, 1.0])
def test_priced_codes_cost_less_than_the_nearest_and_their_bits_are_those_of_the_stream(
    wide: float, price: float
) -> None:
    draw = np.random.default_rng(5)
    ratios = (wide * draw.laplace(size=64 * 48)).astype(np.float32)
    worths = draw.exponential(size=len(ratios)).astype(np.float32)
    nearest = np.rint(ratios).astype(np.int32)
    plain, before = context.priced(nearest, 48, ratios, worths, 0.0)
    codes, bits = context.priced(nearest, 48, ratios, worths, price)
    assert np.array_equal(plain, nearest)
    assert context.priced(codes, 48, codes.astype(np.float32), worths, 0.0)[1] == pytest.approx(
        bits, rel=0.01
    )
    assert cost(codes, bits, ratios, worths, price) < cost(nearest, before, ratios, worths, price)
