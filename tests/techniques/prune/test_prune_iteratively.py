"""Iterative pruning: masks by hand, zeros that stay, schedules, sensitivity, resumption."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_resumes_exactly
from torch import Tensor, nn
from torch.nn.utils import prune as oracle

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure, sensitivity
from engine.net import zoo
from engine.net.train import Plan, fit
from engine.recipe import technique
from engine.recipe.run import apply
from engine.techniques.prune import prune_iteratively as iterative
from engine.tensor import masks, schedules
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, Progress, Report, Step, weight_layers

NAMES = {"a": "a.weight", "b": "b.weight"}


def part_of(whole: Data, train: int, validation: int) -> Data:
    parts = (whole.train.stratified(train), whole.validation.stratified(validation))
    return Data(whole.name, *parts, whole.test.stratified(validation), whole.classes)


@pytest.fixture(scope="module")
def small() -> Data:
    return part_of(sets.load("mnist"), 300, 200)


def untrained(name: str) -> Bundle:
    return zoo.bundle_of(name, dict(zoo.seeded(name, 3).state_dict()))


def tune(bundle: Bundle, given_data: Data, **settings: Any) -> tuple[Bundle, Report]:
    return apply(bundle, Step("prune_iteratively", {"epochs": 1, "rounds": 2, **settings}), given_data)


def zeros(bundle: Bundle) -> dict[str, Tensor]:
    return {name: bundle.params[name].decode() == 0 for name in weight_layers(bundle).values()}


# ---------------------------------------------------------------- which weights go


def tiny_net() -> nn.Module:
    """Two layers of four weights; those of `a` are ten times as large."""
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    with torch.no_grad():
        net["a"].weight.copy_(torch.tensor([[10.0, -20.0], [30.0, -40.0]]))
        net["b"].weight.copy_(torch.tensor([[-1.0, 2.0], [3.0, -4.5]]))
    return net


@pytest.mark.parametrize(
    ("allocation", "a", "b"),
    [
        ("global", [[1, 1], [1, 1]], [[0, 0], [0, 0]]),  # all of b is smaller than any of a
        ("layer", [[0, 0], [1, 1]], [[0, 0], [1, 1]]),
        # a / 25.50 = .39 .78 1.18 1.57, b / 2.90 = .34 .69 1.03 1.55: four smallest are .34 .39 .69 .78
        ("quality", [[0, 0], [1, 1]], [[0, 0], [1, 1]]),
    ],
)
def test_half_of_the_weights_by_hand(allocation: str, a: list[Any], b: list[Any], small: Data) -> None:
    net = tiny_net()
    units, scan = iterative._units(net, NAMES, allocation, small.validation, Progress())
    kept = iterative._Ranking(NAMES, units).kept(net, 0.5)
    assert scan is None
    assert (kept["a.weight"].tolist(), kept["b.weight"].tolist()) == (a, b)


def test_the_unit_of_hans_rule_is_the_deviation_of_all_first_weights(small: Data) -> None:
    units, _ = iterative._units(tiny_net(), NAMES, "quality", small.validation, Progress())
    # mean -5, squares 225 + 225 + 1225 + 1225 over 4
    assert units is not None
    assert units["a"] == pytest.approx(math.sqrt(725))


def test_one_round_over_the_model_removes_what_torch_removes(small: Data) -> None:
    bundle = untrained("mlp-32")
    after, _ = tune(bundle, small, rounds=1, sparsity=0.8, allocation="global")
    net = zoo.fork(bundle)
    layers = [(net.get_submodule(f"fc{i}"), "weight") for i in (1, 2)]
    oracle.global_unstructured(layers, oracle.L1Unstructured, amount=round(0.8 * 25_408))
    for name, gone in zeros(after).items():
        assert torch.equal(gone, net.get_submodule(name.removesuffix(".weight")).weight_mask == 0)


def test_a_round_by_hand(small: Data) -> None:
    """Two rounds to 0.96 leave a fifth each: 5,082 of 25,408 weights, then 1,016 of those."""
    after, report = tune(untrained("mlp-32"), small, sparsity=0.96, allocation="global", learning_rate=0.05)
    assert report.tables["rounds"]["sparsity"].tolist() == [20_326 / 25_408, 24_392 / 25_408]
    assert sum(int(gone.sum()) for gone in zeros(after).values()) == 24_392
    first, _ = tune(
        untrained("mlp-32"), small, sparsity=0.8, rounds=1, allocation="global", learning_rate=0.05
    )
    survivors = torch.cat([p.decode().abs().flatten() for n, p in first.params.items() if "weight" in n])
    cut = survivors.sort().values[24_392 - 1]  # the second ranking is over the values after the first round
    for name, gone in zeros(after).items():
        assert torch.equal(gone, first.params[name].decode().abs() <= cut)


def test_a_layer_that_is_left_out_is_trained_but_not_pruned(small: Data) -> None:
    bundle = untrained("mlp-32")
    after, report = tune(bundle, small, leave_out=["fc2"])
    assert not zeros(after)["fc2.weight"].any()
    assert not torch.equal(after.params["fc2.weight"].decode(), bundle.params["fc2.weight"].decode())
    assert list(report.tables["layers"]["layer"]) == ["fc1"]
    assert "not pruned: fc2" in " ".join(report.notes)


# ---------------------------------------------------------------- sensitivity


def test_the_scan_finds_what_each_layer_bears_alone_and_leaves_the_net_as_it_was() -> None:
    bundle, samples = zoo.load("lenet-300-100"), sets.load("mnist").validation.stratified(500)
    net = zoo.fork(bundle)
    names = weight_layers(bundle)
    scan = sensitivity.scan(net, names, samples, Progress()).set_index("layer")
    assert all(torch.equal(net.get_parameter(n), bundle.params[n].decode()) for n in names.values())
    whole = measure.share_right(net, samples)
    for label, name in names.items():
        share = float(scan.loc[label, "sparsity"])
        beyond = sensitivity.SHARES[sensitivity.SHARES.index(share) + 1]
        lost = {}
        for tried in (share, beyond):
            kept = masks.by_sparsity(bundle.params[name].decode(), tried)
            alone = bundle.become({**bundle.params, name: bundle.params[name].masked(kept)})
            lost[tried] = whole - measure.accuracy(alone, samples).value
        assert lost[share] <= sensitivity.BEARABLE < lost[beyond]
        sizes = bundle.params[name].decode().abs()
        assert float((sizes <= scan.loc[label, "threshold"]).float().mean()) == pytest.approx(share, abs=1e-3)


def test_thresholds_are_in_proportion_to_what_each_layer_bears(small: Data) -> None:
    bundle = zoo.load("lenet-300-100")
    after, report = tune(bundle, small, rounds=1, allocation="sensitivity", sparsity=0.9)
    borne = report.tables["sensitivity"].set_index("layer")["threshold"]
    gone = zeros(after)
    shares = []
    for label, name in weight_layers(bundle).items():
        sizes = bundle.params[name].decode().abs()
        cut = float(sizes[gone[name]].max())
        assert cut <= float(sizes[~gone[name]].min())
        shares.append(cut / borne[label])
    assert shares == pytest.approx([shares[0]] * 3, rel=0.02)


# ---------------------------------------------------------------- zeros stay


@pytest.mark.parametrize("schedule", ["rounds", "gradual"])
@pytest.mark.parametrize("name", ["mlp-32", "lenet-5-small", "lstm-32"])
def test_the_sparsity_is_exact_and_the_other_weights_learn(name: str, schedule: str, small: Data) -> None:
    before = untrained(name)
    after, report = tune(before, small, sparsity=0.85, schedule=schedule, learning_rate=0.05, epochs=2)
    total = sum(gone.numel() for gone in zeros(after).values())
    removed = sum(int(gone.sum()) for gone in zeros(after).values())
    assert removed == round(0.85 * total)
    assert report.figures[0].value == removed
    assert report.tables["layers"]["removed"].sum() == removed
    for layer, gone in zeros(after).items():
        assert not torch.equal(after.params[layer].decode()[~gone], before.params[layer].decode()[~gone])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_pruned_in_training_stays_zero_against_momentum_and_weight_decay(
    optimizer: str, small: Data
) -> None:
    net, seen = zoo.seeded("mlp-32", 0), []
    weight = net.get_parameter("fc1.weight")

    def prune(_: nn.Module, batches: int) -> dict[str, Tensor] | None:
        seen.append(int((weight == 0).sum()))
        return {"fc1.weight": masks.by_sparsity(weight, 0.5).float()} if batches == 4 else None

    plan = Plan(3, 0.05, optimizer=optimizer, schedule="constant", batch=100, weight_decay=0.1)
    fit(net, small.train, plan, prune=prune)
    # Nine batches; the momentum of the first four does not revive what goes before the fifth.
    assert seen[:5] == [0] * 5
    assert seen[5:] == [12_544] * 4
    assert int((weight == 0).sum()) == 12_544


def test_a_net_that_is_pruned_already_goes_on_from_there(small: Data) -> None:
    first, _ = tune(untrained("mlp-32"), small, sparsity=0.5, rounds=1, allocation="global")
    second, report = tune(first, small, sparsity=0.92, rounds=2, allocation="global")
    # half of the weights left, then 0.5 sqrt(0.16) = a fifth, then 0.08
    assert report.tables["rounds"]["sparsity"].tolist() == pytest.approx([0.8, 0.92], abs=1e-4)
    assert all((zeros(second)[name] | ~gone).all() for name, gone in zeros(first).items())
    same, _ = tune(first, small, sparsity=0.3, rounds=1, allocation="global")
    assert all(torch.equal(zeros(same)[name], gone) for name, gone in zeros(first).items())


# ---------------------------------------------------------------- schedules


def test_gradual_pruning_follows_the_cubic_curve() -> None:
    given_data = part_of(sets.load("mnist"), 2560, 200)  # 20 batches an epoch
    _, report = tune(
        untrained("mlp-32"), given_data, sparsity=0.9, schedule="gradual", epochs=20, allocation="global"
    )
    curve = report.tables["curve"].set_index("epoch")["sparsity"]
    events = schedules.gradual(400, iterative.INTERVAL, iterative.OVER, 0.9)
    assert list(events) == [100, 200, 300]
    assert curve[5] == 0
    assert [curve[epoch] for epoch in (6, 11, 16, 20)] == pytest.approx(
        [events[100], events[200], 0.9, 0.9], abs=1e-4
    )
    assert "rounds" not in report.tables


def test_the_tables_say_what_happened(small: Data) -> None:
    bundle = untrained("mlp-32")
    after, report = tune(bundle, small, epochs=2, sparsity=0.9)
    rounds, curve = report.tables["rounds"], report.tables["curve"]
    assert list(curve["epoch"]) == [1, 2, 3, 4]
    assert list(curve["round"]) == [1, 1, 2, 2]
    assert list(rounds["accuracy after retraining"]) == list(curve["validation accuracy"][1::2])
    assert rounds["sparsity"].tolist() == pytest.approx([1 - math.sqrt(0.1), 0.9], abs=1e-4)
    figures = {figure.name: figure.value for figure in report.figures}
    assert figures["validation accuracy after"] == measure.accuracy(after, small.validation).value
    assert figures["validation accuracy after"] == pytest.approx(curve["validation accuracy"].iloc[-1])
    assert figures["validation accuracy before"] == measure.accuracy(bundle, small.validation).value
    layers = report.tables["layers"].set_index("layer")
    gone = zeros(after)["fc1.weight"]
    assert layers.loc["fc1", "kept"] == int((~gone).sum())
    first = bundle.params["fc1.weight"].decode().double()
    energy = float((first[~gone] ** 2).sum() / (first**2).sum())
    assert layers.loc["fc1", "energy_kept"] == pytest.approx(energy)


def test_codes_return_to_floats_and_the_note_says_so(small: Data) -> None:
    bundle = untrained("mlp-32")
    codes = torch.round(bundle.params["fc1.weight"].decode() / 0.01).to(torch.int32)
    grid = AffineGrid(codes, torch.tensor([0.01]), torch.zeros(1, dtype=torch.int32), 8)
    _, report = tune(bundle.become({**bundle.params, "fc1.weight": grid}), small)
    assert "fc1.weight had been quantized" in report.notes[-1]


# ---------------------------------------------------------------- a teacher


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"rounds": 5, "epochs": 2}, 10),
        ({"rounds": 5, "epochs": 2, "teacher": "original"}, 14),  # 10 * 4 / 3
        ({"schedule": "gradual", "epochs": 6, "teacher": "zoo"}, 24),
    ],
)
def test_what_a_teachers_answers_cost_by_hand(settings: dict[str, Any], epochs: int) -> None:
    known = technique.get("prune_iteratively")
    assert known.cost is not None
    assert known.cost({**known.defaults, **settings}).epochs == epochs


def test_with_a_teacher_alone_the_labels_do_not_matter(small: Data) -> None:
    bundle, settings = zoo.load("mlp-32"), {"schedule": "gradual", "sparsity": 0.9, "teacher": "original"}
    train = replace(small.train, labels=small.train.labels.flip(0))
    wrong = replace(small, train=train)
    for alpha, same in ((1.0, True), (0.5, False)):
        found = [tune(bundle, data, **settings, alpha=alpha)[0].fingerprint for data in (small, wrong)]
        assert (found[0] == found[1]) is same


# ---------------------------------------------------------------- repetition


@pytest.mark.parametrize("stop", [1, 4, 6, 9])
@pytest.mark.parametrize("schedule", ["rounds", "gradual"])
def test_broken_off_and_resumed_it_is_bit_for_bit_the_unbroken_run(
    schedule: str, stop: int, small: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iterative, "INTERVAL", 2)
    settings = {"rounds": 2, "epochs": 2 if schedule == "rounds" else 4, "schedule": schedule}
    step = Step("prune_iteratively", {**settings, "learning_rate": 0.05})
    assert_resumes_exactly(untrained("mlp-32"), step, small, stop, tmp_path)


def test_same_seed_same_bytes_and_another_seed_another_net(small: Data) -> None:
    bundle = untrained("mlp-32")
    one, two, other = (tune(bundle, small, seed=seed)[0].fingerprint for seed in (1, 1, 2))
    assert one == two != other


def test_pruned_in_rounds_a_net_loses_less_at_the_last_cut_than_all_at_once() -> None:
    given_data = part_of(sets.load("mnist"), 5000, 1000)
    bundle = zoo.load("lenet-300-100")
    before, after = [], []
    for rounds in (1, 4):
        _, report = tune(
            bundle, given_data, sparsity=0.97, rounds=rounds, allocation="global", learning_rate=0.03
        )
        last = report.tables["rounds"].iloc[-1]
        before.append(last["accuracy before retraining"])
        after.append(last["accuracy after retraining"])
    assert before[1] > before[0] + 0.2
    assert after[1] > after[0]
