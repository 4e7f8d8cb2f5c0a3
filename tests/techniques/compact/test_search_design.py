"""Searching a design: what is proposed keeps to its budget, and who is better goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import own_models
import pytest
import torch
from conftest import assert_resumes_exactly
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets, user_parts
from engine.data.sets import Data
from engine.figures import count, design_search
from engine.figures.design_search import Tried, front, ranked
from engine.file import packfile
from engine.net import sources, zoo
from engine.net.designing import Blueprint, drawn
from engine.net.narrower import bundle_of, fresh
from engine.recipe import technique
from engine.recipe.run import apply
from engine.tensor.compact import Design
from engine.types import Arch, Bundle, Cancelled, Progress, Report, SlimscopeError, Step

MODEL = "lenet-5-small"
QUICK: dict[str, Any] = {"designs": 9, "epochs": 3, "subset": 500, "budget": 0.6}


@pytest.fixture(scope="module")
def digits() -> Data:
    whole = sets.load("mnist")
    parts = (part.stratified(500) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def found(digits: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load(MODEL), Step("search_design", QUICK), digits)


def tried(number: int, cost: float, accuracy: float) -> Tried:
    return Tried(number, Blueprint((1.0, 1.0, 1.0)), Arch("lenet-5"), cost, False, 1, accuracy)


# ---------------------------------------------------------------- by hand


def test_a_narrower_copy_has_the_weights_that_its_widths_say() -> None:
    net = fresh(drawn(zoo.load("lenet-5"), Blueprint((0.5, 0.5, 0.1))), 0)
    # 8 and 24 kernels of 5 x 5, 48 units that read 24 x 4 x 4 numbers, ten classes; biases beside.
    assert sum(p.numel() for p in net.parameters()) == (
        (8 * 25 + 8) + (24 * 8 * 25 + 24) + (48 * 24 * 16 + 48) + (10 * 48 + 10)
    )


def test_cheaper_convolutions_take_the_places_of_the_last_ones_that_fit() -> None:
    vgg, separable = zoo.load("vgg-small"), Design("separable")
    for since, names in ((0, list("2345678")), (1, list("45678")), (2, list("678"))):
        arch = drawn(vgg, Blueprint((1.0, 1.0, 1.0), separable, since))
        edits = [settings["layer"] for verb, settings in arch.edits if verb == "replace_conv"]
        assert edits == [f"conv{name}" for name in names]


def test_front_after_front_and_the_more_accurate_first() -> None:
    small, middle, large = tried(0, 10, 0.5), tried(1, 20, 0.8), tried(2, 30, 0.9)
    worse, worst = tried(3, 25, 0.7), tried(4, 40, 0.6)
    assert front([worst, small, worse, middle, large]) == [small, middle, large]
    order = ranked([worst, small, worse, middle, large])
    assert [one.number for one in order] == [2, 1, 0, 3, 4]


def test_those_made_by_hand_stay_to_be_compared_with() -> None:
    left = [replace(tried(number, 10 + number, number / 10), by_hand=number == 0) for number in range(9)]
    assert [one.number for one in design_search.next_round(left[:1] + left[5:], 2)] == [0, 7, 8]


def test_later_rounds_cost_as_much_as_the_first_and_those_made_by_hand() -> None:
    assert design_search.passes(27, 9) == [27.0, 27.0 + 3 * 4, 27.0 + 9 * 4]
    declared = technique.get("search_design").cost
    assert declared is not None
    settings = technique.get("search_design").check({"designs": 27, "epochs": 9, "subset": 5000})
    assert (declared(settings).epochs, declared(settings).images) == (81 + 12 * 4, 5000)


# ---------------------------------------------------------------- properties


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12, unique_by=lambda each: each
    )
)
def test_nobody_is_ranked_behind_one_that_it_beats(points: list[tuple[int, int]]) -> None:
    order = ranked([tried(number, cost, right / 9) for number, (cost, right) in enumerate(points)])
    assert sorted(one.number for one in order) == list(range(len(points)))
    for place, one in enumerate(order):
        for later in order[place + 1 :]:
            better = later.cost <= one.cost and later.accuracy >= one.accuracy
            assert not better or (later.cost, later.accuracy) == (one.cost, one.accuracy)


def test_proposals_are_different_and_keep_to_the_budget_and_come_again() -> None:
    bundle = zoo.load("resnet-8")

    def cost(arch: Arch) -> float:
        return count.parameters(bundle_of(arch, fresh(arch, 0))).value

    whole = cost(bundle.arch)

    def drawn_twice() -> list[tuple[str, float]]:
        found = []
        for one, tell in design_search.proposals(bundle, 16, 0.3, cost, 5):
            tell(one.cost / whole)
            found.append((one.arch.key, one.cost))
        return found

    first = drawn_twice()
    assert len({key for key, _ in first}) == 16
    assert drawn(bundle, Blueprint((0.5, 0.5, 0.5))).key in {key for key, _ in first[:4]}  # by hand
    assert max(size for _, size in first) <= 0.3 * whole
    assert drawn_twice() == first


# ---------------------------------------------------------------- the search


def test_the_winner_is_the_most_accurate_of_the_last_round_and_keeps_to_the_budget(
    found: tuple[Bundle, Report],
) -> None:
    after, report = found
    table = report.tables["designs"]
    assert len(table) == QUICK["designs"]
    fits = table["bytes"] <= QUICK["budget"] * packfile.size(zoo.load(MODEL)).value
    assert table[table["by_hand"] & fits]["epochs"].eq(3).all()
    assert 3 <= len(table[table["epochs"] == 3]) <= 3 + table["by_hand"].sum()  # of nine three go on
    last, (own,) = table[table["epochs"] == 3], table[table["chosen"]].to_dict("records")
    assert own["accuracy"] == last["accuracy"].max() > 0.2  # chance has 0.1
    assert own["parameters"] == count.parameters(after).value
    assert own["bytes"] <= QUICK["budget"] * packfile.size(zoo.load(MODEL)).value
    assert table[~fits]["epochs"].eq(1).all()  # its numbers take more bytes once they are trained: it is out
    assert own["on_front"]
    assert list(report.tables["curve"]["epoch"])[-1] == 3


def test_a_file_of_the_winner_is_the_winner(found: tuple[Bundle, Report], digits: Data) -> None:
    again = packfile.unpack(packfile.pack(found[0]))
    images = digits.test.inputs()
    assert torch.equal(zoo.build(again)(images), zoo.build(found[0])(images))


def test_a_design_of_a_budget_of_time_has_one(digits: Data) -> None:
    quick = {**QUICK, "designs": 2, "epochs": 1, "limit": "time", "budget": 1.0}
    table = apply(zoo.load(MODEL), Step("search_design", quick), digits)[1].tables["designs"]
    assert (table["milliseconds"] > 0).all()
    assert table["share_of_time"].between(0, 1).all()


def test_a_search_by_time_goes_on_with_the_times_that_it_measured(digits: Data, tmp_path: Path) -> None:
    step = Step("search_design", {**QUICK, "designs": 3, "limit": "time", "budget": 1.0})
    seen: list[float] = []
    broken = Progress(lambda share, _: seen.append(share), lambda: len(seen) > 25, tmp_path)
    with pytest.raises(Cancelled):
        apply(zoo.load(MODEL), step, digits, broken)
    first = json.loads((tmp_path / "costs.json").read_text())
    table = apply(zoo.load(MODEL), step, digits, Progress(folder=tmp_path))[1].tables["designs"]
    last = json.loads((tmp_path / "costs.json").read_text())
    assert len(first) > 1
    assert {key: last[key] for key in first} == first
    assert set(table["milliseconds"]) <= {time for _, time in last.values()}


def test_a_search_goes_on_where_it_was_broken_off(digits: Data, tmp_path: Path) -> None:
    step = Step("search_design", {**QUICK, "designs": 3})
    assert_resumes_exactly(zoo.load(MODEL), step, digits, 9, tmp_path)


def test_what_cannot_be_is_said(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SlimscopeError, match="is recurrent: its units feed back"):
        apply(zoo.load("lstm-32"), Step("search_design", QUICK), digits)
    with pytest.raises(SlimscopeError, match=r"0\.02 of LeNet-5 small: the smallest .* takes 0\.\d+"):
        apply(zoo.load(MODEL), Step("search_design", {**QUICK, "budget": 0.02}), digits)
    monkeypatch.setattr(design_search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SlimscopeError, match=r"pip install 'slimscope\[search\]'"):
        apply(zoo.load(MODEL), Step("search_design", QUICK), digits)


class Mixed(nn.Module):
    """Its channels can go, but its multiply-adds can't be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.mixing = nn.Parameter(torch.randn(8, own_models.CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).mean((2, 3)) @ self.mixing


def test_a_net_whose_multiply_adds_are_not_known_is_refused_before_anything_is_trained() -> None:
    data = user_parts.task_of(own_models.parts("branches"), "own")
    bundle, _, _ = sources.adopt(Mixed(), data)
    assert technique.get("search_design").why_not(bundle).startswith("the multiply-adds of")
