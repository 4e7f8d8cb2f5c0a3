"""Averages that come back: biases against the original's means, batch-norm against its own inputs."""

import pytest
import torch
from torch import Tensor

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import averages, taps, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.types import Bundle, SlimscopeError


@pytest.fixture(scope="module")
def mnist() -> Data:
    return sets.load("mnist")


@pytest.fixture(scope="module")
def photos() -> Data:
    return sets.load("cifar10")


def rounded(net: str, bits: int) -> Bundle:
    return apply(zoo.load(net), step("quantize", bits=bits), None)[0]


def images(data: Data, count: int = 50) -> Tensor:
    return data.train.stratified(count).inputs()


def test_a_bias_takes_up_what_rounding_adds_to_the_mean(mnist: Data) -> None:
    before = rounded("mlp-32", 3)
    after, report = apply(before, step("recalibrate", what="bias", samples=50), mnist)
    weights = [each.params["fc1.weight"].decode().double() for each in (before.origin, before)]
    mean = images(mnist).flatten(1).double().mean(0)
    moved = after.params["fc1.bias"].decode() - before.params["fc1.bias"].decode()
    assert torch.allclose(moved.double(), (weights[0] - weights[1]) @ mean, atol=1e-5)
    assert after.params["fc1.weight"] is before.params["fc1.weight"]
    assert report.tables["layers"]["corrected"].tolist() == ["bias", "bias"]
    assert bool((report.tables["layers"]["shift_after"] < report.tables["layers"]["shift_before"]).all())


def test_every_layer_then_has_the_originals_mean_though_those_before_it_moved(photos: Data) -> None:
    before, seen = rounded("resnet-8", 3), images(photos)
    after, report = apply(before, step("recalibrate", what="bias", samples=50), photos)
    kinds = (*averages.LAYERS, *averages.NORMS)
    wanted, now = (averages.means_of(each, seen, kinds) for each in (before.origin, after))
    behind = taps.normal_behind(before.arch)
    for layer in report.tables["layers"]["layer"]:
        at = behind.get(layer, layer)
        assert averages.shift_of(now[at], wanted[at]) < 1e-4, layer
    corrected = report.tables["layers"].set_index("layer")["corrected"]
    assert (corrected["conv1"], corrected["fc"]) == ("batch-norm", "bias")


def test_batch_norm_gets_mean_and_variance_of_what_it_sees(photos: Data) -> None:
    before = rounded("resnet-8", 3)
    after, _ = apply(before, step("recalibrate", what="batch_norm", samples=50), photos)
    net = zoo.fork(before).eval()
    entering = net.conv1(images(photos)).detach().transpose(0, 1).flatten(1)
    assert torch.allclose(after.params["bn1.running_mean"].decode(), entering.mean(1), atol=1e-5)
    assert torch.allclose(after.params["bn1.running_var"].decode(), entering.var(1), rtol=1e-4)
    assert after.params["fc.bias"] is before.params["fc.bias"]


def test_at_3_bits_it_wins_back_most_of_what_rounding_lost(photos: Data) -> None:
    before, sample = rounded("resnet-8", 3), photos.validation.stratified(500)
    after, _ = apply(before, step("recalibrate", samples=100), photos)
    whole, lost, back = (measure.accuracy(each, sample).value for each in (before.origin, before, after))
    assert whole - back < 0.5 * (whole - lost)


def test_layers_that_changed_their_width_and_models_without_batch_norm(mnist: Data) -> None:
    narrow, _ = apply(zoo.load("lenet-5-small"), step("prune_filters", removed=0.5), mnist)
    after, report = apply(narrow, step("recalibrate", samples=50), mnist)
    table = report.tables["layers"].set_index("layer")
    assert table.loc["conv1", "corrected"] == "nothing"
    assert table.loc["fc2", "corrected"] == "bias"
    assert any("conv1" in note for note in report.notes)
    same, report = apply(narrow, step("recalibrate", what="batch_norm", samples=50), mnist)
    assert same.fingerprint == narrow.fingerprint != after.fingerprint
    assert any("no batch-norm" in note for note in report.notes)


def test_it_must_run_the_model() -> None:
    with pytest.raises(SlimscopeError, match="must run the model"):
        apply(zoo.load("mlp-32"), step("recalibrate"), None)
