"""Curves along a setting: the order of points, what lies between them, and what they say of each other."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

import engine.techniques  # noqa: F401  (fills the registry)
from engine.net import zoo
from engine.recipe import curve, technique


def order(accuracies: list[float | None], most: int) -> list[int]:
    """The places in the order in which they are worked out."""
    known: dict[int, float | None] = {}
    while (place := curve.next_place(len(accuracies), known, most)) is not None:
        assert place not in known
        known[place] = accuracies[place]
    return list(known)


def test_a_flat_curve_is_halved_again_and_again():
    assert order([0.9] * 9, 9)[:5] == [0, 8, 4, 2, 6]


def test_points_gather_where_accuracy_falls():
    cliff = [0.98] * 90 + [0.9, 0.85, 0.8, 0.7, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1]
    found = order(cliff, 16)
    assert {89, 90, 91, 92} <= set(
        found
    )  # every stop from the last that costs nothing to the end of the zoom


def test_how_deep_it_falls_does_not_matter_beyond_the_zoom():
    shallow, deep = ([0.98] * 50 + [low] * 50 for low in (0.98 - curve.ZOOM, 0.1))
    assert order(shallow, 20) == order(deep, 20)


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=60), st.integers(1, 30))
def test_every_order_ends_with_as_many_different_places_as_asked_for(accuracies, most):
    found = order(accuracies, most)
    assert len(found) == min(most, len(accuracies))
    assert set(found[:2]) <= {0, len(accuracies) - 1}


def test_only_stops_of_the_curve_count_as_known():
    rows = [{"value": value, "accuracy": 0.9} for value in (None, 0.123, 0.0)]
    assert curve.next_value([0.0, 0.5, 1.0], rows, 3) == 1.0


def row(value, size, accuracy, change=(-0.1, -0.05)):
    interval = {"low": accuracy - 0.01, "high": accuracy + 0.01}
    return {"value": value, "bytes": size, "accuracy": accuracy, **interval,
            "change_low": change[0], "change_high": change[1]}  # fmt: skip


def test_between_two_points_bytes_are_a_geometric_mean_and_accuracy_an_arithmetic_one():
    found = curve.between([0, 1, 2, 3], [row(0, 100, 0.9), row(2, 400, 0.7), row(None, 1000, 0.95)])
    assert [round(size, 9) for size, _ in found] == [100, 200, 400, 400]
    assert [round(accuracy, 9) for _, accuracy in found] == [0.9, 0.8, 0.7, 0.7]


def test_what_was_measured_is_given_back_to_the_byte():
    assert curve.between([3, 7], [row(3, 1_234_567, 0.9171), row(7, 89, 0.1)]) == [
        (1_234_567, 0.9171),
        (89, 0.1),
    ]


def test_one_point_and_refused_points_are_no_curve():
    refused = {**row(1, 1, 0.5), "accuracy": None, "bytes": None}
    assert curve.between([0, 1], [row(0, 100, 0.9), refused, row(None, 1, 1.0)]) is None


def test_ranks_by_hand():
    rows = [
        row(None, 1000, 0.95, (-0.01, 0.01)),
        row(0.2, 900, 0.95, (-0.01, 0.01)),
        row(0.5, 500, 0.90),
        row(0.6, 600, 0.89),  # larger and worse than the one before
        {**row(0.7, 1, 0.5), "accuracy": None},
    ]
    assert curve.ranks(rows) == ["original", "tie", "front", "dominated", "refused"]


def test_a_curve_runs_along_the_slider_that_can_be_seen():
    defaults = technique.get("prune_weights").defaults
    assert curve.main_setting("prune_weights", {**defaults, "by": "threshold"}) == "threshold"
    assert curve.main_setting("quantize", technique.get("quantize").defaults) == "bits"
    assert curve.main_setting("finetune", technique.get("finetune").defaults) == "epochs"


def test_values_are_the_stops_of_the_slider():
    model = zoo.load("mlp-32")
    assert curve.values_of("quantize", "bits", model) == list(range(1, 17))
    assert all(math.isfinite(value) for value in curve.values_of("prune_weights", "threshold", model))
