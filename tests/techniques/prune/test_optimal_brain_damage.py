"""Optimal brain damage as a step: what goes, what was predicted, and what the loss then really did."""

from __future__ import annotations

import odd_models
import pytest
import torch
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import user_parts
from engine.data.sets import Data, Samples, load
from engine.net import curvature, sources, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor import masks
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Report, SlimscopeError

FIGURES = (
    "weights removed",
    "sparsity of the pruned layers",
    "predicted rise of the loss",
    "rise of the loss",
    "rise of the loss by magnitude",
    "rank correlation of saliency",
    "rank correlation of magnitude",
    "rank correlation with the slope",
)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("mnist")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return zoo.load("mlp-32")


@pytest.fixture(scope="module")
def result(bundle: Bundle, digits: Data) -> tuple[Bundle, Report]:
    return apply(bundle, step("optimal_brain_damage", sparsity=0.6), digits)


def loss(bundle: Bundle, samples: Samples) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(zoo.build(bundle)(samples.inputs()).double(), samples.labels))


def saliencies(bundle: Bundle, seen: Samples) -> dict[str, torch.Tensor]:
    bends = curvature.diagonal(zoo.fork(bundle), seen)
    return {name: bend * bundle.params[name].decode().square() / 2 for name, bend in bends.items()}


def test_the_lowest_saliencies_of_all_layers_go(
    bundle: Bundle, digits: Data, result: tuple[Bundle, Report]
) -> None:
    after, report = result
    found = saliencies(bundle, digits.train.stratified(200, 0))
    gone = {name: after.params[name].decode() == 0 for name in found}
    assert sum(int(mask.sum()) for mask in gone.values()) == round(0.6 * 25_408)
    highest = max(float(found[name][mask].max()) for name, mask in gone.items())
    lowest = min(float(found[name][~mask].min()) for name, mask in gone.items())
    assert highest <= lowest
    told = report.tables["layers"]
    assert told["predicted"].sum() == pytest.approx(sum(float(found[n][m].sum()) for n, m in gone.items()))
    assert [f.name for f in report.figures] == list(FIGURES)


def test_the_rise_of_the_loss_is_that_of_the_pruned_net(
    bundle: Bundle, digits: Data, result: tuple[Bundle, Report]
) -> None:
    after, report = result
    seen = digits.train.stratified(200, 0)
    told = {figure.name: figure for figure in report.figures}
    assert told["rise of the loss"].value == pytest.approx(loss(after, seen) - loss(bundle, seen), abs=1e-6)
    weights = [bundle.params[name].decode() for name in ("fc1.weight", "fc2.weight")]
    smallest = masks.by_sparsity_over(weights, 0.6)
    params = {
        name: Dense(torch.where(kept, weight, 0.0))
        for name, weight, kept in zip(("fc1.weight", "fc2.weight"), weights, smallest, strict=True)
    }
    by_size = bundle.become({**bundle.params, **params})
    assert told["rise of the loss by magnitude"].value == pytest.approx(
        loss(by_size, seen) - loss(bundle, seen), abs=1e-6
    )


def test_single_weights_are_really_taken_out_and_two_orders_explain_them(
    bundle: Bundle, digits: Data, result: tuple[Bundle, Report]
) -> None:
    table, seen = result[1].tables["predicted"], digits.train.stratified(200, 0)
    singles = table[table["removed"] == "one weight"]
    assert len(singles) == 200
    assert set(singles["weights"]) == {1}
    row = singles.loc[singles["measured"].abs().idxmax()]
    name = f"{row['layer']}.weight"
    weight = bundle.params[name].decode()
    (at,) = (weight.abs().flatten() == row["magnitude"]).nonzero().flatten().tolist()
    without = weight.clone()
    without.view(-1)[at] = 0.0
    real = loss(bundle.become({**bundle.params, name: Dense(without)}), seen) - loss(bundle, seen)
    assert row["measured"] == pytest.approx(real, abs=1e-7)
    told = {figure.name: figure for figure in result[1].figures}
    # the net was trained with weight decay and on more samples: the slope is what a single weight feels
    assert told["rank correlation with the slope"].value > 0.98
    assert told["rank correlation of saliency"].value < 0.5
    assert any("not at a minimum" in note for note in result[1].notes)
    for figure in list(told.values())[5:]:
        assert figure.spread is not None
        assert figure.spread[0] < figure.value < figure.spread[1]


def test_groups_grow_in_either_order(result: tuple[Bundle, Report]) -> None:
    table = result[1].tables["predicted"]
    for order in ("lowest saliency", "smallest magnitude"):
        rows = table[table["removed"] == order]
        assert rows["weights"].is_monotonic_increasing
        assert rows["predicted"].is_monotonic_increasing
        assert rows["weights"].iloc[-1] == round(0.9 * 25_408)
    pairs = [
        table[table["removed"] == order]["predicted"] for order in ("lowest saliency", "smallest magnitude")
    ]
    assert all(
        low <= high for low, high in zip(*pairs, strict=True)
    )  # no other group is predicted to cost less


@pytest.mark.parametrize("allocation", ["layer", "erk"])
def test_the_allocations_share_out(bundle: Bundle, digits: Data, allocation: str) -> None:
    _, report = apply(bundle, step("optimal_brain_damage", sparsity=0.5, allocation=allocation), digits)
    layers = report.tables["layers"]
    assert layers["removed"].sum() == 12_704
    shares = layers["sparsity"].tolist()
    assert shares == pytest.approx([0.5, 0.5]) if allocation == "layer" else shares[1] < 0.1 < shares[0]


def test_zeros_stay_and_a_net_of_zeros_has_no_correlation(bundle: Bundle, digits: Data) -> None:
    pruned, _ = apply(bundle, step("prune_weights", sparsity=0.9), digits)
    again, report = apply(pruned, step("optimal_brain_damage", sparsity=0.5), digits)
    assert all(torch.equal(again.state()[name], pruned.state()[name]) for name in pruned.params)
    singles = report.tables["predicted"].query("removed == 'one weight'")
    assert (singles["magnitude"] > 0).all()
    empty = bundle.become({name: Dense(torch.zeros(p.shape)) for name, p in bundle.params.items()})
    _, report = apply(empty, step("optimal_brain_damage"), digits)
    assert [f.name for f in report.figures] == list(FIGURES[:5])
    assert report.figures[3].value == 0.0


def test_weights_without_a_net_are_refused(digits: Data) -> None:
    bare = Bundle(Arch("bare"), {"a.weight": Dense(torch.ones(2, 2))})
    with pytest.raises(SlimscopeError, match="must run the model"):
        apply(bare, step("optimal_brain_damage"), digits)


def test_a_recurrent_net_says_what_its_curvature_is_not(digits: Data) -> None:
    few = Data(digits.name, *[digits.train.stratified(20)] * 3, classes=digits.classes)
    _, report = apply(zoo.load("lstm-32"), step("optimal_brain_damage"), few)
    assert any("recurrent" in note for note in report.notes)
    assert "20 training samples" in report.figures[3].how


def test_a_shared_tensor_is_pruned_once_by_its_own_saliency() -> None:
    task = user_parts.task_of(odd_models.words(), "words")
    bundle = sources.adopt(odd_models.tied(), task)[0]
    after, report = apply(bundle, step("optimal_brain_damage", sparsity=0.4), task)
    found = saliencies(bundle, task.train.stratified(200, 0))
    assert list(found) == ["tokens.weight", "mix.weight"]
    gone = {name: after.params[name].decode() == 0 for name in found}
    assert sum(int(mask.sum()) for mask in gone.values()) == round(0.4 * (4 * 5 + 5 * 5))
    highest = max(float(found[name][mask].max()) for name, mask in gone.items() if mask.any())
    assert highest <= min(float(found[name][~mask].min()) for name, mask in gone.items())
    told = report.tables["layers"]["predicted"].sum()
    assert told == pytest.approx(sum(float(found[n][m].sum()) for n, m in gone.items()))
