"""Grids of recipes, Pareto fronts and ties: by hand and against brute force."""

from __future__ import annotations

import job_worker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe import sweep
from engine.recipe.knobs import SettingError
from engine.types import Recipe, SlimscopeError, Step


@pytest.fixture(autouse=True, scope="module")
def _techniques():
    with job_worker.registered():
        yield


TWO = Recipe((Step("shrink", {"share": 0.1}), Step("shrink", {"share": 0.2})))


def test_variations_change_one_step_and_nothing_else():
    found = sweep.variations(TWO, 2, {"share": [0.3, 0.4]})
    assert [chosen for chosen, _ in found] == [{"share": 0.3}, {"share": 0.4}]
    assert [[step.settings["share"] for step in recipe] for _, recipe in found] == [[0.1, 0.3], [0.1, 0.4]]
    assert all(step.settings["keep_sign"] is True for _, recipe in found for step in recipe)


def test_variations_of_two_settings_are_their_product_last_fastest():
    found = sweep.variations(TWO, 1, {"share": [0.3, 0.4], "keep_sign": [True, False]})
    pairs = [(chosen["share"], chosen["keep_sign"]) for chosen, _ in found]
    assert pairs == [(0.3, True), (0.3, False), (0.4, True), (0.4, False)]


def test_equal_values_give_one_recipe_and_steps_that_are_off_stay_off():
    recipe = TWO.then(Step("shrink", {}, False))
    found = sweep.variations(recipe, 1, {"share": [0.5, 0.5, 0.50]})
    assert len(found) == 1
    assert [step.on for step in found[0][1]] == [True, True, False]


@pytest.mark.parametrize(
    ("number", "vary", "says"),
    [
        (0, {"share": [0.1]}, "step 0 is not in this recipe: it has 3 steps"),
        (4, {"share": [0.1]}, "step 4 is not in this recipe: it has 3 steps"),
        (3, {"share": [0.1]}, "step 3 .shrink. is switched off"),
        (1, {}, "allowed is 1 or 2"),
        (1, {"share": []}, "allowed is 1 or 2"),
        (1, {"share": [i / 1000 for i in range(401)]}, "401 recipes: allowed is at most 400"),
        (1, {"shine": [1]}, "no setting 'shine'"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(number, vary, says):
    with pytest.raises(SlimscopeError, match=says):
        sweep.variations(TWO.then(Step("shrink", {}, False)), number, vary)


def test_a_value_out_of_range_is_refused_before_anything_runs():
    with pytest.raises(SettingError, match=r"share is 1.5: allowed is a number from 0 to 0.999"):
        sweep.variations(TWO, 1, {"share": [0.5, 1.5]})


# ---------------------------------------------------------------- fronts

few = st.integers(0, 6)
points = st.lists(st.tuples(few, few), min_size=0, max_size=12)


def _beats(a, b):
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(points)
def test_front_is_what_brute_force_finds(found):
    expected = [not any(_beats(other, point) for other in found) for point in found]
    assert sweep.front([p[0] for p in found], [p[1] for p in found]) == expected


@given(points)
def test_whoever_dominates_does_beat_and_is_on_the_front(found):
    sizes, accuracies = [p[0] for p in found], [p[1] for p in found]
    best = sweep.front(sizes, accuracies)
    for point, winner in zip(found, sweep.dominators(sizes, accuracies), strict=True):
        assert winner is None or (_beats(found[winner], point) and best[winner])
        allowed = [p for p in found if p[0] <= point[0]]
        most = max(p[1] for p in allowed)
        assert winner is None or found[winner] == (min(p[0] for p in allowed if p[1] == most), most)


@given(st.lists(st.tuples(few, few, st.integers(0, 2)), max_size=10))
def test_ties_are_what_brute_force_finds(found):
    spreads = [(a - w, a + w) for _, a, w in found]
    tied = sweep.ties([p[0] for p in found], [p[1] for p in found], spreads)
    for i, (size, accuracy, width) in enumerate(found):
        near = [
            s
            for j, (s, a, w) in enumerate(found)
            if j != i and s <= size and abs(a - accuracy) <= min(width, w)
        ]
        assert (tied[i] is None) == (not near)
        assert tied[i] is None or found[tied[i]][0] == min(near)


ROWS = [
    {"recipe": "base", "bytes": 100, "accuracy": 0.98, "low": 0.97, "high": 0.99},
    {"recipe": "small", "bytes": 20, "accuracy": 0.97, "low": 0.96, "high": 0.98},
    {"recipe": "worse", "bytes": 30, "accuracy": 0.90, "low": 0.88, "high": 0.92},
    {
        "recipe": "odd",
        "bytes": None,
        "accuracy": None,
        "low": None,
        "high": None,
        "refused": "rank too large",
    },
]


def test_table_names_dominator_and_tie_and_keeps_what_was_refused():
    table = sweep.table(ROWS).set_index("recipe")
    assert table["pareto"].to_dict() == {"base": True, "small": True, "worse": False, "odd": False}
    assert table["dominated_by"].to_dict() == {"base": "", "small": "", "worse": "small", "odd": ""}
    assert table["tied_with"].to_dict() == {"base": "small", "small": "", "worse": "", "odd": ""}


def test_table_without_rows_has_its_columns():
    assert list(sweep.table([]).columns[-3:]) == ["pareto", "dominated_by", "tied_with"]


@given(
    st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=6),
    st.floats(0, 0.1),
)
def test_a_layer_bears_a_setting_only_with_all_gentler_ones(changes: list[float], bearable: float) -> None:
    values = list(range(len(changes)))
    rows = [{"layer": "fc", "value": v, "change": c} for v, c in zip(values, changes, strict=True)]
    last = sweep.tolerated(rows[::-1], values, bearable).get("fc", -1)
    assert all(change >= -bearable for change in changes[: last + 1])
    assert last + 1 == len(changes) or changes[last + 1] < -bearable


def test_what_was_refused_is_not_borne() -> None:
    rows = [{"layer": "fc", "value": 0.5, "change": None}, {"layer": "fc", "value": 0.9, "change": 0.0}]
    assert sweep.tolerated(rows, [0.5, 0.9], 0.01) == {}
