"""Replacing convolutions: which ones, what fit and training bring, and that layers can be put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_resumes_exactly

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count
from engine.file import packfile
from engine.net import zoo
from engine.recipe.run import apply
from engine.tensor.compact import NAMES
from engine.types import Bundle, Report, SlimscopeError, Step

MODEL = "lenet-5-small"


@pytest.fixture(scope="module")
def digits() -> Data:
    whole = sets.load("mnist")
    return Data(
        whole.name,
        whole.train.stratified(1000),
        whole.validation.stratified(1000),
        whole.test.stratified(100),
        classes=whole.classes,
    )


def replace(images: Data, **knobs: Any) -> tuple[Bundle, Report]:
    return apply(zoo.load(MODEL), Step("replace_convs", {"epochs": 0, **knobs}), images)


def accuracy(report: Report) -> float:
    return {figure.name: figure.value for figure in report.figures}["validation accuracy after"]


def test_which_layers_were_replaced_and_why_the_others_were_not(digits: Data) -> None:
    """conv2 reads 4 channels with 5x5 kernels, 8 of them: 800 weights become 4 x 25 + 8 x 4, at 64 places."""
    after, report = replace(digits)
    layers = report.tables["layers"].set_index("layer")
    assert layers["replaced"].tolist() == [False, True, False, False]
    assert "too few channels" in layers.loc["conv1", "why"]
    assert layers.loc["fc1", "why"] == "it is no 2-D convolution"
    assert layers.loc["conv2", ["weights_before", "weights_after"]].tolist() == [800, 132]
    assert layers.loc["conv2", ["macs_before", "macs_after"]].tolist() == [51_200, 132 * 64]
    assert layers["macs_after"].sum() == count.macs(after).value
    assert layers["weights_after"].sum() == sum(w.numel() for _, w in count.weights(after))
    assert any("conv1, too few channels" in note for note in report.notes)


@pytest.mark.parametrize("design", NAMES)
def test_each_design_is_packed_and_answers_the_same(design: str, digits: Data) -> None:
    after, report = replace(digits, design=design, groups=2, rounds=1)
    again = packfile.unpack(packfile.pack(after))
    inputs = digits.test.inputs()
    assert torch.equal(zoo.build(again)(inputs), zoo.build(after)(inputs))
    assert count.macs(after).value < count.macs(zoo.load(MODEL)).value
    assert report.tables["layers"]["error_fitted"].dropna().between(0, 1).all()


def test_the_fit_brings_accuracy_that_weights_alone_lose_and_training_more(digits: Data) -> None:
    _, alone = replace(digits, rounds=0)
    _, fitted = replace(digits, rounds=5)
    _, trained = replace(digits, rounds=5, epochs=2)
    own = fitted.tables["layers"].set_index("layer").loc["conv2"]
    assert own["error_fitted"] < 0.6 * own["error_at_start"]
    assert accuracy(alone) + 0.03 < accuracy(fitted) < accuracy(trained) - 0.02
    curve = trained.tables["curve"]
    assert curve["epoch"].tolist() == [0, 1, 2]
    assert curve["validation accuracy"].iloc[0] == accuracy(fitted)


def test_a_layer_can_be_put_back_and_one_must_be_left(digits: Data) -> None:
    photos = sets.load("cifar10")
    parts = (part.stratified(40) for part in (photos.train, photos.validation, photos.test))
    few = Data(photos.name, *parts, classes=photos.classes)
    bundle = zoo.load("resnet-8")
    step = Step("replace_convs", {"epochs": 0, "rounds": 1, "leave_out": ["layer1.0.conv1"]})
    after, report = apply(bundle, step, few)
    layers = report.tables["layers"].set_index("layer")
    assert layers.loc["layer1.0.conv1", "why"] == "left out"
    assert layers["replaced"].sum() == 5
    assert after.params["layer1.0.conv1.weight"] is bundle.params["layer1.0.conv1.weight"]
    assert after.params["layer2.0.conv1.0.weight"].shape == (16, 1, 3, 3)
    with pytest.raises(SlimscopeError, match=r"no convolution of .* can be separable .*left out"):
        replace(digits, leave_out=["conv2"])


def test_zeros_of_other_layers_stay(digits: Data) -> None:
    pruned, _ = apply(zoo.load(MODEL), Step("prune_weights", {"sparsity": 0.5}), digits)
    after, _ = apply(pruned, Step("replace_convs", {"epochs": 1}), digits)
    for name in ("conv1.weight", "fc1.weight"):
        gone = pruned.params[name].decode() == 0
        assert bool(gone.any())
        assert not after.params[name].decode()[gone].any()
    quantized, _ = apply(zoo.load(MODEL), Step("quantize", {"bits": 8}), digits)
    kept, _ = apply(quantized, Step("replace_convs", {"epochs": 0}), digits)
    assert kept.params["fc1.weight"] is quantized.params["fc1.weight"]


def test_later_steps_work_on_the_new_layers(digits: Data) -> None:
    after, _ = replace(digits, design="shuffled", groups=2)
    for later in (
        Step("prune_weights", {"sparsity": 0.5}),
        Step("quantize", {"bits": 8, "activations": "static"}),
    ):
        assert apply(after, later, digits)[0].arch.edits
    with pytest.raises(SlimscopeError, match="can be separable"):
        apply(after, Step("replace_convs", {"epochs": 0}), digits)


def test_models_without_a_fitting_convolution_are_refused(digits: Data) -> None:
    with pytest.raises(SlimscopeError, match="MLP-32 has no 2-D convolution to replace"):
        apply(zoo.load("mlp-32"), Step("replace_convs", {}), digits)
    with pytest.raises(SlimscopeError, match="conv2: its 4 inputs are no multiple of 16"):
        replace(digits, design="grouped", groups=16)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(digits: Data, tmp_path: Path) -> None:
    step = Step("replace_convs", {"epochs": 2, "rounds": 1, "samples": 50})
    assert_resumes_exactly(zoo.load(MODEL), step, digits, 6, tmp_path)
