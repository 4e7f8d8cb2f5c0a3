"""ZeroQ as a step: ranges come from distilled images alone, and serve better than those of noise."""

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import distilled, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, Cancelled, Progress, Report, SlimscopeError


@pytest.fixture(scope="module")
def photos() -> Data:
    whole = sets.load("cifar10")
    parts = (part.stratified(500) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def done(photos: Data) -> tuple[Bundle, Report]:
    settings = {"bits": 4, "activation_bits": 4, "steps": 45, "images": 32}
    return apply(zoo.load("resnet-8"), step("zeroq", **settings), photos)


def test_ranges_of_distilled_images_serve_better_than_those_of_noise(done: tuple[Bundle, Report]) -> None:
    table = done[1].tables["compared"].set_index("ranges_from")
    assert list(table.index) == ["distilled images", "training images", "noise"]
    assert table.loc["distilled images", "accuracy"] > table.loc["noise", "accuracy"] + 0.03
    assert table.loc["training images", "accuracy"] - table.loc["distilled images", "accuracy"] < 0.05


def test_scales_span_what_the_distilled_images_show(done: tuple[Bundle, Report]) -> None:
    seen = done[1].tables["activations"].set_index("layer")
    for layer in ("conv1", "layer1.0.conv2"):
        scale = done[0].params[f"{layer}.input_quantizer.scale"].decode()
        assert float(scale) == pytest.approx(float(seen["seen_high"][layer] - seen["seen_low"][layer]) / 15)
    low, high = distilled.Pixels(*sets.CIFAR_SCALE).ends()
    assert float(low.min()) - 1e-6 <= seen["seen_low"]["conv1"]
    assert seen["seen_high"]["conv1"] <= float(high.max()) + 1e-6
    assert isinstance(done[0].params["conv1.weight"], AffineGrid)


def test_the_figures_are_those_of_the_model_that_comes_out(done: tuple[Bundle, Report], photos: Data) -> None:
    right = measure.accuracy(done[0], photos.validation).value
    assert done[1].tables["compared"]["accuracy"][0] == right
    assert {figure.name: figure.value for figure in done[1].figures}["validation accuracy after"] == right


def test_fewer_bits_in_one_layer_move_the_answers_more(done: tuple[Bundle, Report]) -> None:
    layers = done[1].tables["layers"]
    assert len(layers) == 8
    assert bool((layers["kl_2_bits"] > layers["kl_4_bits"]).all())
    assert bool((layers["kl_4_bits"] > layers["kl_8_bits"]).all())


def test_images_are_kept_as_they_appear(done: tuple[Bundle, Report]) -> None:
    images = done[1].tables["images"]
    assert sorted(set(images["step"])) == [0, 15, 30, 45]
    assert set(images["pixels"].map(len)) == {2 * 3 * 32 * 32}
    assert done[1].tables["distillation"]["loss"].iloc[-1] < done[1].tables["distillation"]["loss"].iloc[0]


def test_models_that_it_does_not_suit_are_refused_and_a_run_can_be_stopped(photos: Data) -> None:
    mnist = sets.load("mnist")
    with pytest.raises(SlimscopeError, match="has no batch-norm"):
        apply(zoo.load("lenet-5-small"), step("zeroq", steps=10), mnist)
    rounded, _ = apply(zoo.load("resnet-8"), step("quantize", activations="dynamic"), photos)
    with pytest.raises(SlimscopeError, match="is quantized already"):
        apply(rounded, step("zeroq", steps=10), photos)
    with pytest.raises(Cancelled):
        apply(zoo.load("resnet-8"), step("zeroq", steps=10), photos, Progress(cancelled=lambda: True))
    assert torch.is_grad_enabled()
