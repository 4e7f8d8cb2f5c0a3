"""A slider's stops: where a number can stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe.knobs import Slider


@given(low=st.integers(0, 50), more=st.integers(1, 100_000))
def test_a_whole_number_on_a_log_scale_has_whole_stops_with_both_ends(low: int, more: int) -> None:
    stops = Slider(help="", low=low, high=low + more, scale="log", whole=True).stops(None)
    assert all(type(stop) is int for stop in stops)
    assert (stops[0], stops[-1]) == (low, low + more)
    assert stops == sorted(set(stops))
    assert len(stops) <= 122


def test_a_log_scale_gives_each_doubling_as_many_stops() -> None:
    stops = Slider(help="", low=1024, high=4096, scale="log", whole=True).stops(None)
    assert len(stops) == 121
    assert stops[60] == 2048


@pytest.mark.parametrize("step", [2, 8])
def test_a_step_decides_before_the_scale(step: int) -> None:
    stops = Slider(help="", low=8, high=24, step=step, scale="log", whole=True).stops(None)
    assert stops == list(range(8, 25, step))
