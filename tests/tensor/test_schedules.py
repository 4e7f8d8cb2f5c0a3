"""Schedules of pruning: the formulas by hand, and what holds for every one of them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tensor import schedules

SHARES = st.floats(0.0, 0.999)


def test_each_round_takes_the_same_share_of_what_is_left() -> None:
    # 1 -> 0.4 -> 0.16 -> 0.064 left
    assert schedules.geometric(0.936, 3) == pytest.approx([0.6, 0.84, 0.936])
    # from half of the weights: 0.5 -> 0.1 -> 0.02 left
    assert schedules.geometric(0.98, 2, 0.5) == pytest.approx([0.9, 0.98])


def test_one_round_is_one_shot() -> None:
    assert schedules.geometric(0.9, 1) == [0.9]


@given(SHARES, SHARES, st.integers(1, 30))
def test_rounds_only_remove_and_end_where_they_should(final: float, initial: float, rounds: int) -> None:
    shares = schedules.geometric(final, rounds, initial)
    assert len(shares) == rounds
    assert shares[-1] == pytest.approx(max(final, initial), abs=1e-12)
    steps = [initial, *shares]
    assert all(a <= b + 1e-12 for a, b in pairwise(steps))


def test_a_net_without_any_weight_left_stays_so() -> None:
    assert schedules.geometric(0.5, 3, 1.0) == [1.0, 1.0, 1.0]


def test_the_cubic_curve_by_hand() -> None:
    # 0.9 + (0.1 - 0.9) (1 - 1/4)^3 = 0.9 - 0.8 * 27/64
    assert schedules.cubic(0.25, 0.9, 0.1) == pytest.approx(0.5625)
    assert (schedules.cubic(0.0, 0.9, 0.1), schedules.cubic(1.0, 0.9, 0.1)) == pytest.approx((0.1, 0.9))


def test_gradual_pruning_comes_at_a_fixed_interval_and_then_rests() -> None:
    events = schedules.gradual(1000, 50, 0.42, 0.8)
    assert list(events) == [50, 100, 150, 200, 250, 300, 350, 400]
    assert events[200] == pytest.approx(0.7)  # half way: 0.8 (1 - 1/8)


@given(st.integers(1, 5000), st.integers(1, 500), st.floats(0.1, 1.0), SHARES, SHARES)
def test_gradual_pruning_reaches_its_end_before_the_training_does(
    steps: int, interval: int, over: float, final: float, initial: float
) -> None:
    events = schedules.gradual(steps, interval, over, final, initial)
    assert min(events) >= 0
    assert max(events) <= over * steps
    assert events[max(events)] == pytest.approx(max(final, initial), abs=1e-12)
    shares = [initial, *events.values()]
    assert all(a <= b + 1e-12 for a, b in pairwise(shares))
