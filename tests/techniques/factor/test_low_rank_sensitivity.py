"""Ranks dealt out by what each layer alone does to the answers: measured, exact, and compared with energy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import zoo
from engine.recipe.run import apply
from engine.recipe.technique import get, step
from engine.tensor import factors
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError


@pytest.fixture(scope="module")
def mnist() -> Data:
    return sets.load("mnist")


def dealt(name: str, data: Data, **settings: Any) -> tuple[Bundle, Any]:
    return apply(zoo.load(name), step("low_rank", by="sensitivity", **settings), data)


def divergence(before: np.ndarray, after: np.ndarray) -> float:
    """Mean KL of softmax, in numpy."""
    old, new = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (before, after))
    return float((np.exp(old) * (old - new)).sum(1).mean())


def test_each_rank_is_tried_alone(mnist: Data) -> None:
    """Of mlp-32's second layer, 10 x 32, a rank costs 42 weights: 1 to 6 of them within 90 %."""
    _, report = dealt("mlp-32", mnist, checked=50)
    tried = report.tables["tried"]
    own = tried[tried["layer"] == "fc2"].set_index("rank")
    assert own["weights"].tolist() == [42 * rank for rank in own.index]
    assert own["share"].tolist() == pytest.approx([42 * rank / 320 for rank in own.index])
    before, samples = zoo.load("mlp-32"), mnist.validation.stratified(50)
    thin = factors.split(before.params["fc2.weight"].decode(), "linear", 3)
    near = before.become({**before.params, "fc2.weight": Dense(factors.join(*thin, "linear"))})
    answers = [measure.logits(zoo.build(each), samples).double().numpy() for each in (before, near)]
    assert own.loc[3, "kl_alone"] == pytest.approx(divergence(*answers), rel=1e-4)


@pytest.mark.parametrize("budget", [0.2, 0.45, 0.8])
def test_no_other_choice_of_the_tried_ranks_loses_less(budget: float, mnist: Data) -> None:
    _, report = dealt("lenet-5-small", mnist, budget=budget)
    layers, tried = report.tables["layers"], report.tables["tried"]
    whole = layers["weights_before"].tolist()
    options = [
        [*tried.loc[tried["layer"] == name, ["weights", "kl_alone"]].itertuples(index=False), (most, 0.0)]
        for name, most in zip(layers["layer"], whole, strict=True)
    ]
    sums = (
        (sum(cost for cost, _ in own), sum(lost for _, lost in own)) for own in itertools.product(*options)
    )
    least = min(lost for cost, lost in sums if cost <= budget * sum(whole))
    assert layers["kl_alone"].sum() == pytest.approx(least)
    assert layers["weights_after"].sum() <= budget * sum(whole)


def test_it_beats_energy_on_lenet_and_says_what_was_predicted(mnist: Data) -> None:
    after, report = dealt("lenet-5-small", mnist, budget=0.4)
    found = {figure.name: figure for figure in report.figures}
    together, by_energy = found["KL of the outputs"], found["KL of the outputs at the ranks by energy"]
    assert together.spread is not None
    assert together.spread[1] < by_energy.value / 2
    assert found["predicted KL of the outputs"].value == report.tables["layers"]["kl_alone"].sum()
    samples = mnist.validation.stratified(100)
    nets = [zoo.build(each) for each in (zoo.load("lenet-5-small"), after)]
    answers = [measure.logits(net, samples).double().numpy() for net in nets]
    assert together.value == pytest.approx(divergence(*answers), rel=1e-3)


def test_ranks_of_their_own_stay_and_nothing_is_predicted_for_them(mnist: Data) -> None:
    _, report = dealt("mlp-32", mnist, per_layer={"fc1": 8}, leave_out=["fc2"])
    layers = report.tables["layers"].set_index("layer")
    assert layers.loc["fc1", "rank"] == 8
    assert layers.loc["fc2", "why"] == "left out"
    assert not [figure for figure in report.figures if figure.name.startswith("predicted")]


def test_tucker_s_pairs_are_dealt_out_as_well(mnist: Data) -> None:
    _, report = dealt("lenet-5-small", mnist, form="tucker", budget=0.4)
    row = report.tables["layers"].set_index("layer").loc["conv2"]
    tried = report.tables["tried"]
    pairs = tried.loc[tried["layer"] == "conv2", ["rank", "input_rank"]].values.tolist()
    assert [row["rank"], row["input_rank"]] in pairs


def test_it_is_measured_and_needs_a_model_that_runs() -> None:
    bare = Bundle(Arch("bare"), {"a.weight": zoo.load("mlp-32").params["fc1.weight"]})
    for bundle in (bare, zoo.load("mlp-32")):
        with pytest.raises(SlimscopeError, match="sensitivity is measured"):
            apply(bundle, step("low_rank", by="sensitivity"), None)
    assert get("low_rank").sees_model({"by": "sensitivity"})
    assert get("low_rank").knobs["checked"].added, "what was kept without it still counts"
