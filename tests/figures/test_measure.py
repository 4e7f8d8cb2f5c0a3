"""Measured figures against oracles and by hand: intervals, flips, classes, divergence."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Samples
from engine.figures import measure
from engine.net import kinds, zoo
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Basis, Bundle, SlimscopeError

answers = st.integers(0, 3)
triples = st.lists(st.tuples(answers, answers, answers), min_size=1, max_size=60)


def columns(rows: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    table = torch.tensor(rows)
    return table[:, 0], table[:, 1], table[:, 2]


def untrained(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 1).state_dict())


# ---------------------------------------------------------------- accuracy


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (1, 3), (985, 1000), (9916, 10_000), (50, 100)])
def test_wilson_against_scipy(right: int, n: int) -> None:
    oracle = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert measure.wilson(right, n) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_wilson_without_samples_says_nothing() -> None:
    assert measure.wilson(0, 0) == (0.0, 1.0)


def test_half_widths_at_98_5_percent() -> None:
    for n, half in ((1000, 0.0077), (2000, 0.0054), (10_000, 0.0024)):
        low, high = measure.wilson(round(0.985 * n), n)
        assert (high - low) / 2 == pytest.approx(half, abs=0.0003)


def test_paired_difference_by_hand() -> None:
    # 100 samples of class 0; 6 lost, 2 won: change -0.04; with half a sample more in each of the four cells
    # -4 / 102 = -0.03922, error sqrt(9 - 16 / 102) / 102 = 0.029154
    labels = torch.zeros(100, dtype=torch.int64)
    before, after = torch.zeros_like(labels), torch.zeros_like(labels)
    after[:6] = 1
    before[6:8] = 1
    figure = measure.paired_difference(before, after, labels)
    assert figure.value == pytest.approx(-0.04)
    assert figure.spread == pytest.approx((-0.03922 - 1.96 * 0.029154, -0.03922 + 1.96 * 0.029154), abs=1e-5)
    assert figure.basis is Basis.MEASURED
    assert "2 won, 6 lost of the same 100" in figure.how


def test_a_paired_difference_of_nothing_is_not_certain() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    figure = measure.paired_difference(labels, labels, labels)
    assert figure.value == 0.0
    assert figure.spread == pytest.approx((-1.96 / 102, 1.96 / 102), abs=1e-5)


@given(triples)
def test_paired_figures_agree_with_the_accuracies(rows: list[tuple[int, int, int]]) -> None:
    before, after, labels = columns(rows)
    one, two = measure.accuracy_of(before, labels), measure.accuracy_of(after, labels)
    change = measure.paired_difference(before, after, labels)
    assert change.value == pytest.approx(two.value - one.value)
    for figure in (one, change):
        assert figure.spread is not None
        assert figure.spread[0] <= figure.value <= figure.spread[1]


def test_accuracy_runs_the_net_and_leaves_its_mode() -> None:
    samples = sets.load("mnist").test.stratified(200)
    net = zoo.build(zoo.load("mlp-32")).train()
    share = measure.share_right(net, samples)
    assert net.training
    assert measure.accuracy(zoo.load("mlp-32"), samples).value == pytest.approx(share)
    assert share > 0.9


# ---------------------------------------------------------------- divergence


def test_kl_by_hand() -> None:
    # shares 1/2, 1/2 against 3/4, 1/4: ln(2/3) / 2 + ln(2) / 2
    teacher, student = torch.zeros(2), torch.log(torch.tensor([3.0, 1.0]))
    figure = measure.kl(teacher, student)
    assert figure.value == pytest.approx(0.143841, abs=1e-6)
    assert figure.unit == "nat"
    assert measure.kl(teacher.expand(5, 2), student.expand(5, 2)).value == pytest.approx(figure.value)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=10), st.floats(0.5, 20))
def test_kl_against_scipy(rows: list[tuple[float, float]], temperature: float) -> None:
    v, z = torch.tensor(rows, dtype=torch.float64).T
    p, q = torch.softmax(v / temperature, 0), torch.softmax(z / temperature, 0)
    assert measure.kl(v, z, temperature).value == pytest.approx(stats.entropy(p, q), abs=1e-9)
    assert measure.kl(v, v, temperature).value == 0


# ---------------------------------------------------------------- flips and classes


def test_flips_by_hand() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    table = measure.flips(torch.tensor([0, 0, 0, 3]), torch.tensor([1, 1, 1, 3]), labels)
    assert table.to_dict("list") == {
        "sample": [0, 1, 2],
        "label": [0, 1, 2],
        "before": [0, 0, 0],
        "after": [1, 1, 1],
        "kind": ["lost", "won", "changed"],
    }
    assert measure.flips(labels, labels, labels).empty


@given(triples)
@settings(deadline=None)
def test_flips_and_classes_add_up_to_the_change(rows: list[tuple[int, int, int]]) -> None:
    before, after, labels = columns(rows)
    kinds = measure.flips(before, after, labels)["kind"].value_counts()
    change = measure.paired_difference(before, after, labels).value
    assert (kinds.get("won", 0) - kinds.get("lost", 0)) / len(rows) == pytest.approx(change)
    table = measure.per_class(before, after, labels, ("a", "b", "c", "d"))
    assert table["n"].sum() == len(rows)
    assert (table["change"].fillna(0) * table["n"]).sum() / len(rows) == pytest.approx(change)


def test_per_class_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1])
    table = measure.per_class(
        torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 1]), labels, ("x", "y", "z")
    )
    first = table.iloc[0]
    assert (first["class"], first["n"], first["before"], first["after"]) == ("x", 4, 0.75, 0.5)
    assert first["change"] == -0.25
    assert (first["after low"], first["after high"]) == measure.wilson(2, 4)
    assert table.iloc[1]["change"] == 0
    assert math.isnan(table.iloc[2]["before"])
    assert (table.iloc[2]["before low"], table.iloc[2]["before high"]) == (0, 1)
    assert isinstance(table, pd.DataFrame)


def test_accuracy_is_carried_from_the_whole_test_set_by_the_change_on_a_sample():
    labels = torch.zeros(100, dtype=torch.int64)
    before, after = labels.clone(), labels.clone()
    before[:10], after[:13] = 1, 1
    whole = measure.accuracy_of(torch.tensor([0] * 912 + [1] * 88), torch.zeros(1000, dtype=torch.int64))
    change = measure.paired_difference(before, after, labels)
    found = measure.carried(whole, change)
    assert found.value == pytest.approx(0.912 - 0.03)
    assert found.spread == pytest.approx((0.912 + change.spread[0], 0.912 + change.spread[1]))
    assert "912 of 1000" in found.how
    assert "100 samples" in found.how


def test_a_carried_accuracy_stays_a_share():
    labels = torch.zeros(4, dtype=torch.int64)
    whole = measure.accuracy_of(torch.tensor([0] * 9 + [1]), torch.zeros(10, dtype=torch.int64))
    found = measure.carried(whole, measure.paired_difference(torch.tensor([1, 0, 0, 0]), labels, labels))
    assert found.value == 1.0
    assert found.spread[1] == 1.0


# ---------------------------------------------------------------- how many samples


@pytest.mark.parametrize("name", list(zoo.ENTRIES))
def test_sample_size_is_the_largest_within_the_budget(name: str) -> None:
    bundle = untrained(name)
    n, work = measure.sample_size(bundle), kinds.work(bundle)
    sizes = measure.LIVE_WINDOWS if name == "glass-en" else measure.LIVE_SIZES
    assert n in sizes
    assert n * work <= measure.LIVE_BUDGET or n == sizes[0]
    larger = [size for size in sizes if size > n]
    assert all(size * work > measure.LIVE_BUDGET for size in larger)


def test_small_nets_are_measured_in_full() -> None:
    assert measure.sample_size(untrained("lenet-300-100")) == 10_000


def test_targets_that_are_no_classes_have_neither_accuracy_nor_loss() -> None:
    """A column of numbers against answers (n,) would compare each with all."""
    data = sets.load("mnist")
    part = Samples(data.train.images[:40], torch.rand(40, 1), data.train.mean, data.train.std)
    own = replace(data, train=part, validation=part, test=part, metric=lambda outputs, targets: 0.0)
    bundle = zoo.load("mlp-32")
    with pytest.raises(SlimscopeError, match="no accuracy is measured"):
        measure.accuracy(bundle, part)
    for name in ("finetune", "optimal_brain_damage", "prune_iteratively", "trim"):
        with pytest.raises(
            SlimscopeError, match=r"targets that are numbers of classes|no accuracy is measured"
        ):
            apply(bundle, technique.step(name), own)
