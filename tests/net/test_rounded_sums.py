"""What layers give to sums, rounded: which layers, the same numbers as by hand, and codes from end to end."""

from __future__ import annotations

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import integer_only, onnx_run
from engine.file import onnx_file, packfile
from engine.net import incremental, rounded_sums, zoo
from engine.recipe.run import run
from engine.types import Bundle, Recipe, SlimscopeError

PLAIN = '[["quantize",{"activations":"static"}]]'
ROUNDED = '[["quantize",{"activations":"static","round_sums":true}]]'


@pytest.fixture(scope="module")
def photos() -> Data:
    return sets.load("cifar10")


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("resnet-8")


@pytest.fixture(scope="module")
def after(net: Bundle, photos: Data) -> Bundle:
    return run(net, Recipe.from_key(ROUNDED), photos)[0]


def test_the_layers_that_give_to_sums() -> None:
    assert rounded_sums.giving(zoo.load("resnet-8")) == {
        "conv1": "bn1",
        "layer1.0.conv2": "layer1.0.bn2",
        "layer2.0.conv2": "layer2.0.bn2",
        "layer3.0.conv2": "layer3.0.bn2",
    }
    assert rounded_sums.giving(zoo.load("vgg-small")) == {"conv8": "bn8"}, "before an average"
    for name in ("lenet-5-small", "mlp-32", "lstm-32"):
        assert rounded_sums.giving(zoo.load(name)) == {}


def test_what_leaves_is_on_its_grid_and_as_near_as_by_hand(after: Bundle, photos: Data) -> None:
    """A symmetric grid of 8 bits: scale * whole numbers from -127 to 127, half a step off at most."""
    net, images, given = zoo.fork(after).eval(), photos.validation.inputs(slice(0, 4)), {}
    net.bn1.output_quantizer.register_forward_hook(lambda module, args, out: given.update(one=(args[0], out)))
    with torch.no_grad():
        net(images)
    before, rounded = given["one"]
    scale = after.params["bn1.output_quantizer.scale"].decode()
    by_hand = torch.round(before / scale).clamp(-127, 127) * scale
    assert torch.equal(rounded, by_hand)
    assert len(rounded.unique()) <= 255


def test_every_layer_of_a_residual_net_multiplies_codes(net: Bundle, after: Bundle, photos: Data) -> None:
    """Without it half of the convolutions stay on floats; the file answers as the simulated model does."""
    few = photos.validation.stratified(200)
    plain = run(net, Recipe.from_key(PLAIN), photos)[0]
    files = [onnx_file.write(each, few.inputs(slice(0, 2)), unsigned=True) for each in (plain, after)]
    layers = [set(onnx_run.of_layers(file)[0]) for file in files]
    assert len(layers[0]) == 4
    assert len(layers[1]) == 8
    tried = onnx_run.tried(net, after, few)
    assert tried.figure("equal predictions").value >= 0.97
    lost = [int((incremental.logits(each, few)[0].argmax(1) != few.labels).sum()) for each in (plain, after)]
    assert abs(lost[0] - lost[1]) <= 6


def test_it_runs_on_integers_alone(after: Bundle, photos: Data) -> None:
    """A term that falls the other way is off by a step of its own grid: that may be two of the sum's."""
    found = integer_only.compared(after, photos.validation.stratified(30))
    assert found.layers["largest_lsb_alone"].max() <= 2
    assert found.layers["mean_lsb"].max() < 0.5
    assert {figure.name: figure.value for figure in found.figures}["equal predictions"] >= 0.95


def test_it_is_packed_and_rebuilt_with_equal_answers(after: Bundle, photos: Data) -> None:
    few = photos.validation.take(slice(0, 50))
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(incremental.logits(again, few)[0], incremental.logits(after, few)[0])


def test_a_second_rounding_of_an_output_is_refused(after: Bundle) -> None:
    arch = after.arch.edit("quantize_output", layer="bn1", bits=8, symmetric=True)
    with pytest.raises(SlimscopeError, match="quantized already"):
        zoo.skeleton(arch)
    arch = after.arch.edit("quantize_output", layer="conv1", bits=40, symmetric=True)
    with pytest.raises(SlimscopeError, match="40 bits: allowed are 1 to 16"):
        zoo.skeleton(arch)
