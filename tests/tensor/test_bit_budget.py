"""Bits under a budget: a choice by hand, the same as trying all, ties, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tensor import bit_budget
from engine.tensor.bit_budget import Choice, least_loss
from engine.types import SlimscopeError

OPTION = st.tuples(st.integers(0, 40), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 3.0]) | st.floats(0, 9))
LAYERS = st.lists(st.lists(OPTION, min_size=1, max_size=5), min_size=1, max_size=4)


def split(layers: list[list[tuple[int, float]]]) -> tuple[list[list[int]], list[list[float]]]:
    return [[c for c, _ in layer] for layer in layers], [[x for _, x in layer] for layer in layers]


def test_by_hand() -> None:
    """12 bytes hold the wide option of one layer, and the second gains more by it: 8 instead of 4."""
    costs, losses = [[4, 8], [4, 8]], [[6.0, 2.0], [9.0, 1.0]]
    assert least_loss(costs, losses, 12) == Choice((0, 1), 12, 7.0)
    assert least_loss(costs, losses, 15) == Choice((0, 1), 12, 7.0)
    assert least_loss(costs, losses, 16) == Choice((1, 1), 16, 3.0)
    assert least_loss(costs, losses, 8) == Choice((0, 0), 8, 15.0)


@settings(max_examples=300, deadline=None)
@given(LAYERS, st.floats(0, 1))
def test_no_other_choice_of_four_layers_is_better(
    layers: list[list[tuple[int, float]]], share: float
) -> None:
    costs, losses = split(layers)
    ends = sum(map(min, costs)), sum(map(max, costs))
    budget = round(ends[0] + share * (ends[1] - ends[0]))
    tried = (
        (sum(option[1] for option in chosen), sum(option[0] for option in chosen))
        for chosen in itertools.product(*layers)
    )
    loss, cost = min(each for each in tried if each[1] <= budget)
    found = least_loss(costs, losses, budget)
    assert found.loss == pytest.approx(loss, abs=1e-9)
    assert found.cost <= budget
    assert found.cost == cost or found.loss < loss + 1e-9
    assert found.cost == sum(own[place] for own, place in zip(costs, found.places, strict=True))


def test_where_a_greedy_choice_is_wrong() -> None:
    """Most loss for a byte is saved by the first layer; the budget is used better by the second alone."""
    assert least_loss([[0, 6], [0, 10]], [[7.0, 0.0], [10.0, 0.0]], 10).places == (0, 1)


def test_a_hundred_layers_stay_within_the_budget_and_beat_every_uniform_width() -> None:
    chance = np.random.default_rng(0)
    weights = chance.integers(400, 40_000, 100)
    costs = [[int(n * bits * chance.uniform(0.1, 0.125)) for bits in range(2, 9)] for n in weights]
    losses = [
        [float(n * factor * 4.0**-bits) for bits in range(2, 9)]
        for n, factor in zip(weights, chance.lognormal(0, 2, 100), strict=True)
    ]
    for uniform in range(7):
        budget = sum(own[uniform] for own in costs)
        found = least_loss(costs, losses, budget)
        assert found.cost <= budget
        assert found.loss <= sum(own[uniform] for own in losses)


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(SlimscopeError, match="budget is 7: the cheapest choice costs 8"):
        least_loss([[4, 8], [4, 8]], [[1.0, 0.0], [1.0, 0.0]], 7)


def test_no_layers_are_no_cost() -> None:
    assert least_loss([], [], 0) == Choice((), 0, 0.0)


def test_many_rows_are_thinned_cost_by_cost_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    cost = rng.integers(0, 300, 2_000)
    loss = np.round(300 - cost + 40 * rng.random(2_000))  # with ties
    rows = rng.permutation(2_000)[:1_500]
    by_sorting = bit_budget.undominated(cost, loss, rows)
    monkeypatch.setattr(bit_budget, "MANY", 0)
    assert bit_budget.undominated(cost, loss, rows).tolist() == by_sorting.tolist()
    assert len(by_sorting) > 20
