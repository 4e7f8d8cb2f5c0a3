"""Pruning channels as a step: what goes, that the net that is left is right, and that the fit is worth it."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure
from engine.memory import MEMORY
from engine.net import channels, readers, walk, zoo
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import Dense
from engine.types import Bundle, Report, SlimscopeError


def net(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())


def of(bundle: Bundle) -> Data:
    return sets.load(zoo.entry(bundle.arch.name).data)


def changed(bundle: Bundle, **weights: torch.Tensor) -> Bundle:
    """The bundle with other parameters: `fc1_weight=...`."""
    new = {name.replace("_", "."): Dense(values) for name, values in weights.items()}
    return bundle.become({**bundle.params, **new})


def pruned(bundle: Bundle, **settings: Any) -> tuple[Bundle, Report]:
    return apply(bundle, step("prune_channels", **{"samples": 500, **settings}), of(bundle))


def row(report: Report, layer: str) -> dict[str, Any]:
    return report.tables["layers"].set_index("layer").loc[layer].to_dict()


def kept_of(before: Bundle, after: Bundle, layer: str) -> list[int]:
    """Which filters of a layer are left, told by their biases."""
    old, new = (b.state()[f"{layer}.bias"].tolist() for b in (before, after))
    return [old.index(value) for value in new]


# ---------------------------------------------------------------- what goes


def test_the_largest_go_on_and_take_their_units_along() -> None:
    # Column c of fc2 has ten weights of size c + 1: of 32, the upper half is the larger.
    sizes = torch.arange(1.0, 33.0) * torch.tensor([1.0, -1.0]).repeat(5)[:, None]
    before = changed(net("mlp-32"), fc2_weight=sizes)
    after, report = pruned(before, selection="largest", refit=False)
    state, old = after.state(), before.state()
    assert torch.equal(state["fc1.weight"], old["fc1.weight"][16:])
    assert torch.equal(state["fc1.bias"], old["fc1.bias"][16:])
    assert torch.equal(state["fc2.weight"], sizes[:, 16:])
    assert torch.equal(state["fc2.bias"], old["fc2.bias"])
    values = {figure.name: figure.value for figure in report.figures}
    assert values["channels removed"] == 16
    assert (values["multiply-adds before"], values["multiply-adds after"]) == (32 * 794, 16 * 794)
    assert (values["parameters before"], values["parameters"]) == (32 * 795 + 10, 16 * 795 + 10)


def test_channels_that_say_nothing_go_first() -> None:
    # Half of the units never fire: the LASSO drops them, whatever the weights that read them.
    before = net("mlp-32")
    silent = [3, 4, 8, 9, 10, 15, 17, 18, 20, 22, 25, 26, 28, 29, 30, 31]
    bias = before.state()["fc1.bias"].clone()
    bias[silent] = -1000.0 - torch.arange(16)
    before = changed(before, fc1_bias=bias)
    after, report = pruned(before, removed=0.5)
    assert set(kept_of(before, after, "fc1")).isdisjoint(silent)
    assert row(report, "fc2")["error_masked"] < 1e-6


def test_a_copied_unit_goes_without_error_after_the_refit() -> None:
    before = net("mlp-32")
    state = {name: values.clone() for name, values in before.state().items()}
    state["fc1.weight"][1], state["fc1.bias"][1] = 2 * state["fc1.weight"][0], 2 * state["fc1.bias"][0]
    state["fc2.weight"][:, 1] = 0.05  # half of the others' mean: the smallest
    before = changed(before, **{name.replace(".", "_"): values for name, values in state.items()})
    after, report = pruned(before, removed=1 / 32, selection="largest")
    assert kept_of(before, after, "fc1") == [0, *range(2, 32)]
    assert row(report, "fc2")["error_refit"] < 1e-4 < 1e-2 < row(report, "fc2")["error_masked"]
    inputs = of(before).validation.stratified(50).inputs()
    assert torch.allclose(zoo.build(after)(inputs), zoo.build(before)(inputs), atol=1e-4)


def test_streams_of_shortcuts_stay_whole() -> None:
    before = net("resnet-8")
    after, report = pruned(before, removed=0.75)
    layers = report.tables["layers"]
    read = layers.loc[layers["removed"] > 0, ["layer", "channels", "kept"]].values.tolist()
    assert read == [["layer1.0.conv2", 16, 4], ["layer2.0.conv2", 32, 8], ["layer3.0.conv2", 64, 16]]
    assert after.params["layer1.0.conv1.weight"].shape == (4, 16, 3, 3)
    assert after.params["layer1.0.conv2.weight"].shape == (16, 4, 3, 3)
    assert any("Channels that shortcuts pass on stay" in note for note in report.notes)


def test_layers_with_a_share_of_their_own_and_layers_left_out() -> None:
    _, report = pruned(
        net("lenet-5"), removed=0.5, removed_per_layer={"fc1": 0.9}, leave_out=["conv2"], selection="largest"
    )
    assert [row(report, layer)["kept"] for layer in ("conv1", "conv2", "fc1", "fc2")] == [1, 20, 5, 250]
    assert math.isnan(row(report, "conv2")["error_refit"])
    assert any(note.startswith("Left out: conv2; the filters in them") for note in report.notes)


@pytest.mark.parametrize(
    ("name", "label", "allowed"),
    [("lenet-5", "conv1", "conv2, fc1, fc2"), ("resnet-8", "fc", "layer1.0.conv2, layer2.0.conv2, layer3")],
)
def test_layers_whose_inputs_stay_have_no_share(name: str, label: str, allowed: str) -> None:
    with pytest.raises(SettingError, match=f"'{label}', but what it reads cannot go.*allowed are {allowed}"):
        pruned(net(name), removed_per_layer={label: 0.5})


def test_at_least_one_channel_stays_and_all_of_them_leave_the_net_alone() -> None:
    _, report = pruned(net("lenet-5-small"), removed=0.95)
    assert [row(report, layer)["kept"] for layer in ("conv2", "fc1", "fc2")] == [1, 1, 2]
    assert any("Only one channel is left for conv2, fc1 to read" in note for note in report.notes)
    before = net("lenet-5-small")
    after, report = pruned(before, removed=0.0)
    assert after.fingerprint == before.fingerprint
    assert report.figures[0].value == 0


def test_recurrent_nets_are_refused() -> None:
    with pytest.raises(SlimscopeError, match="recurrent"):
        pruned(net("lstm-32"))


# ---------------------------------------------------------------- the numbers are those of the nets


@pytest.mark.parametrize("name", ["lenet-5", "resnet-8"])
def test_the_narrow_net_answers_as_the_one_with_new_weights_and_zeros(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    keep = channels.keep
    monkeypatch.setattr(
        channels, "keep", lambda bundle, kept: calls.append((bundle, kept)) or keep(bundle, kept)
    )
    before = zoo.load(name)
    after, _ = pruned(before)
    fitted, kept = calls[-1]
    inputs = of(before).validation.stratified(40).inputs()
    answers = [zoo.build(b)(inputs) for b in (after, channels.masked(fitted, kept))]
    assert torch.allclose(*answers, atol=1e-5)
    assert not torch.allclose(answers[0], zoo.build(before)(inputs), atol=1e-2)


@pytest.mark.parametrize("refit", [True, False])
def test_errors_are_those_of_the_layers_outputs_on_images_that_were_not_fitted(refit: bool) -> None:
    before = zoo.load("lenet-300-100")
    after, report = pruned(before, refit=refit, leave_out=["fc3"])
    chosen = of(before).train.stratified(625)  # 500 to fit on, 125 to check

    def error(rows: slice) -> float:
        images = chosen.take(rows).inputs().flatten(1)
        outputs = [net.fc2(F.relu(net.fc1(images))) for net in (zoo.build(b) for b in (before, after))]
        # a bias is no part of what is fitted
        return float((outputs[1] - outputs[0]).norm() / (outputs[0] - before.state()["fc2.bias"]).norm())

    said = row(report, "fc2")
    checked = error(slice(500, None))
    assert said["error_refit" if refit else "error_masked"] == pytest.approx(checked, rel=1e-4)
    assert report.figures[-1].value == pytest.approx(checked, rel=1e-4)
    assert "at 125 points of training samples on which nothing was fitted" in report.figures[-1].how
    if refit:
        assert said["error_fitted"] == pytest.approx(error(slice(500)), rel=1e-4)
        assert said["error_fitted"] < said["error_refit"] < said["error_masked"]


def test_rows_are_the_patches_that_a_convolution_sees() -> None:
    layer = torch.nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False)
    inputs = torch.randn(4, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    outputs = layer(inputs).detach().flatten(2)  # (4, 5, positions)
    places = walk.drawn_places(layer, inputs, 7, torch.Generator().manual_seed(0))
    rows = walk.rows_at(layer, inputs, places)
    expected = torch.stack([outputs[i][:, places[i]].T for i in range(4)]).flatten(0, 1)
    assert places.shape == (4, 7)
    assert all(len(set(row)) == 7 for row in places.tolist())
    assert torch.allclose(rows @ layer.weight.detach().flatten(1).T, expected, atol=1e-5)


def test_columns_add_up_to_the_nets_own_figures() -> None:
    before = net("lenet-5-small")
    after, report = pruned(before, removed=0.5)
    layers = report.tables["layers"]
    assert layers["macs_before"].sum() == report.figures[1].value == count.macs(before).value
    assert layers["macs_after"].sum() == report.figures[2].value == count.macs(after).value
    assert report.figures[0].value == layers["removed"].sum() == 2 + 4 + 16
    first = report.tables["path"].query("layer == 'conv2'")
    assert first["kept"].tolist() == [1, 2, 3, 4]
    assert first["lambda"].is_monotonic_decreasing
    assert first["error_refit"].iloc[-1] < 1e-5


def test_the_curve_of_a_layer_is_of_it_alone_and_stays_where_others_are_pruned() -> None:
    before, layers = net("lenet-5-small"), ("conv2", "fc1", "fc2")
    whole = pruned(before, removed=0.5)[1].tables["path"]
    curve = whole.set_index(["layer", "kept"])
    for label in layers:
        alone = row(
            pruned(before, removed=0.5, leave_out=[other for other in layers if other != label])[1], label
        )
        for column in ("error_masked", "error_refit"):
            assert curve.loc[(label, alone["kept"]), column] == pytest.approx(alone[column], rel=1e-5)
    assert pruned(before, removed=0.75)[1].tables["path"].equals(whole)


def test_an_answer_is_the_same_whether_or_not_its_start_is_remembered() -> None:
    before = zoo.load("lenet-5-small")
    pruned(before, removed=0.7)
    warm, warm_report = pruned(before)
    MEMORY.clear()
    cold, cold_report = pruned(before)
    assert cold.fingerprint == warm.fingerprint
    assert cold_report.figures == warm_report.figures
    other, _ = pruned(zoo.initial("lenet-5-small"))
    assert other.fingerprint != cold.fingerprint


def test_chance_is_the_same_for_the_same_seed() -> None:
    before = net("mlp-32")
    first, again, other = (pruned(before, selection="random", seed=seed)[0].fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_a_dear_net_is_shown_fewer_images_and_more_points_of_each() -> None:
    def shown(name: str) -> tuple[int, int]:
        start = readers.begin(readers.Asked("", "lasso", 500, 0, of(net(name)).train, net(name)))
        return start.images, start.goals["layer1.0.conv2" if name == "resnet-20" else "conv2"][
            0
        ].places.shape[1]

    assert shown("lenet-5-small") == (500, 1)
    images, places = shown("resnet-20")
    assert 50 <= images < 500
    assert places == math.ceil(500 / images) <= 10


# ---------------------------------------------------------------- traps


def test_codes_that_are_fitted_anew_are_named() -> None:
    rounded, _ = apply(net("mlp-32"), step("quantize", bits=4), None)
    after, report = pruned(rounded)
    assert isinstance(after.params["fc2.weight"], Dense)
    assert not isinstance(after.params["fc1.weight"], Dense)
    assert any(note.startswith("fc2.weight are 32-bit floats again") for note in report.notes)
    after, report = pruned(rounded, refit=False)
    assert not isinstance(after.params["fc2.weight"], Dense)
    assert not any("32-bit" in note for note in report.notes)


def test_a_rounded_input_is_fitted_as_the_layer_sees_it() -> None:
    plain = zoo.load("lenet-5-small")
    settings = {"activations": "static", "activation_bits": 4, "scheme": "asymmetric"}
    rounded, _ = apply(plain, step("quantize", **settings), of(plain))
    start = readers.begin(readers.Asked(rounded.fingerprint, "lasso", 500, 0, of(rounded).train, rounded))
    passing = walk.Walk(zoo.fork(rounded), start.graph, start.batches, start.at)
    assert 2 < len(next(passing.inputs("conv2")).unique()) <= 16
    _, report = pruned(rounded, removed=0.03)  # nothing goes but one of fc2's 32
    assert row(report, "fc2")["error_refit"] < 0.1
    validation = of(plain).validation.stratified(500)
    left = [measure.accuracy(pruned(net, removed=0.25)[0], validation).value for net in (plain, rounded)]
    assert left[1] > left[0] - 0.05


def test_zeros_that_the_refit_fills_are_named() -> None:
    sparse, _ = apply(zoo.load("lenet-300-100"), step("prune_weights", sparsity=0.5), None)
    assert any("that were zero: prune single weights after" in note for note in pruned(sparse)[1].notes)
    assert not any("that were zero" in note for note in pruned(sparse, refit=False)[1].notes)
    assert not any("that were zero" in note for note in pruned(zoo.load("lenet-300-100"))[1].notes)


def test_a_fit_on_too_few_points_is_named() -> None:
    few = of(net("lenet-5"))
    few = Data(few.name, few.train.stratified(200), few.validation, few.test, few.classes)
    _, report = apply(zoo.load("lenet-5"), step("prune_channels"), few)
    assert any("Fewer points than inputs: fc1 (160 for 400 inputs)" in note for note in report.notes)
    at = row(report, "fc1")
    assert at["error_fitted"] < 0.01 < at["error_refit"]


# ---------------------------------------------------------------- the claim


def test_at_half_the_channels_the_lasso_beats_chance_and_the_refit_beats_none() -> None:
    before = zoo.load("lenet-5")
    validation = of(before).validation

    def right(**settings: Any) -> float:
        after, _ = apply(before, step("prune_channels", removed=0.5, **settings), of(before))
        return measure.accuracy(after, validation).value

    best = right()
    assert best > measure.accuracy(before, validation).value - 0.003
    assert best > max(right(selection="random", seed=seed) for seed in range(2))
    assert best > right(refit=False) + 0.003


def test_nets_of_other_threads_run_while_one_is_traced() -> None:
    other, inputs, wrong, stop = zoo.build(net("mlp-32")), torch.zeros(1, 1, 28, 28), [], threading.Event()
    expected = other(inputs)

    def run() -> None:
        while not stop.is_set():
            try:
                if not torch.equal(other(inputs), expected):
                    wrong.append("other outputs")
            except Exception as error:  # whatever it is, the other thread did nothing wrong
                wrong.append(repr(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(10):
            walk.Tracer().trace(zoo.build(net("resnet-8")))
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_who_asks_while_another_makes_the_start_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before, found, as_it_was = net("resnet-8"), [], nn.Module.__call__
    MEMORY.clear()
    made: list[object] = []
    begin = readers.Start.__init__
    monkeypatch.setattr(
        readers.Start, "__init__", lambda self, *a, **k: made.append(self) or begin(self, *a, **k)
    )

    def prune(removed: float) -> None:
        found.append(apply(before, step("prune_channels", removed=removed), of(before))[0].fingerprint)

    threads = [threading.Thread(target=prune, args=(removed,)) for removed in (0.4, 0.5, 0.6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3
    assert len(made) == 1
    assert nn.Module.__call__ is as_it_was, "tracing has put torch back in order"


@pytest.mark.parametrize(
    "settings", [{"removed": 0.0}, {"removed": 0.5, "leave_out": ["fc1"]}, {"removed": 0.5}]
)
def test_a_layer_reads_as_many_channels_whatever_the_settings(settings: dict[str, Any]) -> None:
    before = net("lenet-5-small")
    rows = (
        apply(before, step("prune_channels", **settings), of(before))[1].tables["layers"].set_index("layer")
    )
    groups = channels.groups(before).values()
    assert rows.loc["fc1", "channels"] == next(g for g in groups if "conv2" in g.layers).channels
