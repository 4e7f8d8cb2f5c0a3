"""What is recommended within a budget, against a brute-force reading of the rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe import front
from engine.recipe.front import Budget
from engine.types import SlimscopeError

N = 5000


def row(name: str, size: int, change: float, half: float = 0.002, n: int = N) -> dict[str, Any]:
    return {
        "technique": name,
        "recipe": f"{name}-{size}-{change}",
        "bytes": size,
        "accuracy": 0.95 + change,
        "n": n,
        "change": change,
        "change_low": change - half,
        "change_high": change + half,
    }


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(("prune", "quantize", "low_rank")),
        st.integers(1, 60),
        st.integers(-40, 4).map(lambda lost: lost / 1000),
        st.sampled_from((0.0005, 0.004)),
        st.sampled_from((500, N)),
    ),
    max_size=25,
)
BUDGETS = st.one_of(
    st.builds(Budget, st.just("bytes"), st.integers(0, 70)),
    st.builds(Budget, st.just("lost"), st.integers(0, 50).map(lambda lost: lost / 1000)),
)


def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    as_good = one["bytes"] <= other["bytes"] and one["accuracy"] >= other["accuracy"]
    return as_good and (one["bytes"], one["accuracy"]) != (other["bytes"], other["accuracy"])


@given(ROWS, BUDGETS)
def test_what_is_recommended_is_in_the_budget_and_never_dominated(rows, budget):
    advice = front.recommended(rows, budget)
    allowed = [one for one in rows if budget.allows(one)]
    assert (advice is None) == (not allowed)
    if advice is not None:
        assert budget.allows(advice.best)
        assert not any(beats(one, advice.best) for one in rows)


@given(ROWS, BUDGETS)
def test_the_runner_up_is_in_the_budget_and_the_best_of_the_other_techniques(rows, budget):
    advice = front.recommended(rows, budget)
    if advice is None:
        return
    others = [one for one in rows if one["technique"] != advice.best["technique"]]
    alone = front.recommended(others, budget)
    assert advice.second == (None if alone is None else alone.best)


@given(ROWS, st.integers(0, 50).map(lambda lost: lost / 1000))
def test_for_a_loss_nothing_smaller_is_allowed(rows, most):
    advice = front.recommended(rows, Budget("lost", most))
    if advice is not None:
        assert advice.reason == "small"
        assert advice.best["bytes"] == min(one["bytes"] for one in rows if -one["change"] <= most + 1e-9)


@given(ROWS, st.integers(0, 70))
def test_for_bytes_it_is_the_most_accurate_or_a_smaller_tie_with_the_original(rows, most):
    advice = front.recommended(rows, Budget("bytes", most))
    if advice is None:
        return
    top = max(one["accuracy"] for one in rows if one["bytes"] <= most)
    if advice.reason == "accurate":
        assert advice.best["accuracy"] == top
    else:
        assert advice.reason == "tie"
        assert advice.best["n"] >= front.SETTLES
        assert advice.best["change_low"] <= 0 <= advice.best["change_high"]


@given(ROWS, BUDGETS, BUDGETS)
def test_a_larger_budget_never_gives_a_worse_answer(rows, one, other):
    if one.kind != other.kind or one.most > other.most:
        return
    tight, wide = front.recommended(rows, one), front.recommended(rows, other)
    if tight is not None and one.kind == "lost":
        assert wide.best["bytes"] <= tight.best["bytes"]
    if tight is not None and tight.reason == "tie":
        assert wide.reason == "tie"


def test_few_samples_never_make_a_tie():
    few = [row("prune", 10, -0.01, half=0.05, n=500), row("prune", 50, 0.0, half=0.05, n=500)]
    assert front.recommended(few, Budget("bytes", 60)).best["bytes"] == 50
    many = [{**one, "n": N} for one in few]
    assert front.recommended(many, Budget("bytes", 60)).best["bytes"] == 10


def test_a_loss_of_just_the_budget_is_allowed_whatever_the_binary_fraction():
    assert 0.7 / 100 < 35 / 5000
    assert Budget("lost", 0.7 / 100).allows({"change": -35 / 5000})


@pytest.mark.parametrize(
    ("kind", "most", "said"), [("bits", 1, "kind is 'bits'"), ("lost", -1, "budget is -1")]
)
def test_a_budget_that_is_none_is_refused_by_name_and_value(kind, most, said):
    with pytest.raises(SlimscopeError, match=said):
        Budget(kind, most)


def test_one_row_stays_of_each_recipe_and_none_that_was_refused():
    first, second = row("prune", 10, -0.01), {**row("prune", 10, -0.01), "bytes": 12}
    refused = {"recipe": "x", "accuracy": None}
    assert front.distinct([first, refused, second]) == [first]
