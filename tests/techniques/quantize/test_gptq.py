"""GPTQ as a step: outputs of layers are nearer than with nearest levels, and weights are further off."""

import pytest
import torch
from torch import Tensor

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import matching, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Bundle, Report, SlimscopeError, weight_layers

NET = "lenet-5-small"


@pytest.fixture(scope="module")
def mnist() -> Data:
    whole = sets.load("mnist")
    parts = (part.stratified(400) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def rounded(mnist: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load(NET), step("gptq", bits=3), mnist)


def nearest(**settings: object) -> Bundle:
    return apply(zoo.load(NET), step("quantize", **{"bits": 3, "range": "mse", **settings}), None)[0]


def rows_of(bundle: Bundle, images: Tensor) -> dict[str, Tensor]:
    """What enters each layer of the model as it is, at the places that GPTQ draws."""
    net, found, names = zoo.fork(bundle).eval(), dict[str, Tensor](), weight_layers(bundle)

    def keep(label: str, rows: Tensor, goal: Tensor) -> Tensor:
        found[label] = rows
        return net.get_submodule(label).weight.detach().flatten(1)  # type: ignore[union-attr,operator]

    matching.change(net, names, images, matching.goals_of(net, names, images, 10, 0), keep)
    return found


@pytest.mark.parametrize("settings", [{}, {"scheme": "asymmetric", "granularity": "group", "group": 8}])
def test_at_3_bits_no_layer_loses_to_nearest_levels_on_the_images_it_is_fitted_on(
    settings: dict[str, object], mnist: Data
) -> None:
    before = zoo.load(NET)
    after, _ = apply(before, step("gptq", bits=3, **settings), mnist)
    images = mnist.train.stratified(500).inputs()
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    other, seen = nearest(**settings), rows_of(after, images)
    assert list(seen) == ["conv1", "conv2", "fc1", "fc2"]
    for label, rows in seen.items():
        fitted, name = rows[: len(rows) - len(rows) // 5], f"{label}.weight"
        own, ours, plain = (each.params[name].decode().flatten(1) for each in (before, after, other))
        errors = [matching.output_error(fitted, fitted @ own.T, weight) for weight in (ours, plain)]
        assert errors[0] <= errors[1], label


def test_on_other_images_outputs_are_nearer_and_weights_are_further_off(
    rounded: tuple[Bundle, Report],
) -> None:
    table = rounded[1].tables["layers"].set_index("layer")
    assert table["points"].tolist() == [3200, 3200, 320, 320]
    assert bool((table["error_gptq"] < table["error_nearest"]).all())
    assert bool((table["mse"] > 1.5 * table["mse_nearest"]).all())
    told = {figure.name: figure.value for figure in rounded[1].figures}
    assert told["output error"] < 0.8 * told["output error, nearest"]
    assert told["mean squared error"] > told["mean squared error, nearest"]


def test_the_report_says_what_a_run_of_the_rounded_model_gives(
    rounded: tuple[Bundle, Report], mnist: Data
) -> None:
    after, report = rounded
    images = mnist.train.stratified(500).inputs()
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    rows = rows_of(after, images)["fc1"][-80:]
    own, plain = (each.params["fc1.weight"].decode() for each in (zoo.load(NET), nearest()))
    goal = rows @ own.T
    row = report.tables["layers"].set_index("layer").loc["fc1"]
    for column, weight in (("error_gptq", after.params["fc1.weight"].decode()), ("error_nearest", plain)):
        off = float((rows @ weight.T - goal).norm() / goal.norm())
        assert row[column] == pytest.approx(off, rel=1e-4), column
    assert row["mse_nearest"] == pytest.approx(float((plain - own).square().mean()), rel=1e-5)


def test_weights_are_on_the_grid_of_the_nearest_ones(rounded: tuple[Bundle, Report]) -> None:
    other = nearest()
    for number, name in enumerate(weight_layers(other).values()):
        one, two = rounded[0].params[name], other.params[name]
        assert isinstance(one, AffineGrid)
        assert isinstance(two, AffineGrid)
        assert torch.equal(one.scale, two.scale)
        assert int(one.codes.abs().max()) <= 3
        moved = float((one.codes != two.codes).double().mean())
        assert rounded[1].tables["layers"]["other_level"][number] == pytest.approx(moved)


def test_at_3_bits_it_keeps_most_of_the_accuracy_that_nearest_levels_lose() -> None:
    photos, before = sets.load("cifar10"), zoo.load("resnet-8")
    sample = photos.validation.stratified(500)
    plain, _ = apply(before, step("quantize", bits=3, range="mse"), None)
    after, _ = apply(before, step("gptq", bits=3, samples=250), photos)
    whole, lost, kept = (measure.accuracy(each, sample).value for each in (before, plain, after))
    assert whole - kept < 0.25 * (whole - lost)


def test_zeros_of_pruning_stay(mnist: Data) -> None:
    pruned, _ = apply(zoo.load(NET), step("prune_weights", sparsity=0.5), None)
    after, report = apply(pruned, step("gptq", scheme="asymmetric", samples=50), mnist)
    for name in weight_layers(pruned).values():
        gone = pruned.params[name].decode() == 0
        assert bool((after.params[name].decode()[gone] == 0).all())
    assert "10 others" in report.notes[0]


def test_a_recurrent_layer_is_rounded_to_nearest_and_named(mnist: Data) -> None:
    after, report = apply(zoo.load("lstm-32"), step("gptq", samples=50), mnist)
    assert any("Rounded to nearest: lstm." in note for note in report.notes)
    other, _ = apply(zoo.load("lstm-32"), step("quantize", bits=4, range="mse"), None)
    name = next(name for name in after.params if "weight_hh" in name)
    assert torch.equal(after.params[name].decode(), other.params[name].decode())


def test_so_is_a_layer_too_wide_for_a_hessian_and_what_is_left_out_stays(
    mnist: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "WIDEST", 100)
    before = zoo.load("mlp-32")
    after, report = apply(before, step("gptq", bits=3, samples=50, leave_out=["fc2"]), mnist)
    other, _ = apply(before, step("quantize", bits=3, range="mse"), None)
    assert torch.equal(after.params["fc1.weight"].decode(), other.params["fc1.weight"].decode())
    assert after.params["fc2.weight"] is before.params["fc2.weight"]
    assert report.notes[1:] == ("Rounded to nearest: fc1.", "Left out: fc2.")
    assert [figure.name for figure in report.figures] == ["mean squared error", "bits per weight"]


def test_inputs_that_are_not_finite_are_refused_with_the_layers_name(mnist: Data) -> None:
    before = zoo.load("mlp-32")
    bias = before.params["fc1.bias"].decode().clone()
    bias[0] = 3e38
    weight = before.params["fc1.weight"].decode() * 1e38
    broken = before.become({**before.params, "fc1.bias": Dense(bias), "fc1.weight": Dense(weight)})
    with pytest.raises(SlimscopeError, match=r"layer 'fc2' can't be fitted: .* not finite"):
        apply(broken, step("gptq", samples=50), mnist)
