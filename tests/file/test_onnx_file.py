"""ONNX files: they answer as the bundle does, in its own codes, and layers multiply integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import odd_models
import onnx
import own_models
import pytest
import torch
from machine import SATURATES, SIGNED
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.user_parts import task_of
from engine.file import onnx_file
from engine.file.onnx_file import floats, running
from engine.file.onnx_file.graph import Graph
from engine.file.onnx_file.integers import FAR_ZEROS, FLOAT_INPUT, FLOAT_OUTPUT, NO_CODES
from engine.net import sources, zoo
from engine.recipe.run import run
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, Recipe, SlimscopeError

STATIC = '[["quantize",{"activations":"static"}]]'
SHIFTED = '[["quantize",{"activations":"static","scheme":"asymmetric","granularity":"tensor"}]]'


def images(bundle: Bundle, n: int) -> torch.Tensor:
    return sets.load(zoo.entry(bundle.arch.name).data).validation.inputs(slice(0, n))


def after(name: str, recipe: str) -> Bundle:
    return run(zoo.load(name), Recipe.from_key(recipe), sets.load(zoo.entry(name).data))[0]


def graph_of(data: bytes) -> dict[str, onnx.NodeProto]:
    """Operators of a file by what they make."""
    return {node.output[0]: node for node in onnx.load_from_string(data).graph.node}


# ---------------------------------------------------------------- floats


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("lenet-5-small", '[["prune_weights",{"sparsity":0.9}]]'),
        ("lenet-5-small", '[["prune_filters",{"removed":0.5}]]'),
        ("mlp-32", '[["low_rank",{}]]'),
        ("lenet-5-small", '[["low_rank",{"form":"tucker","by":"share"}]]'),
        ("resnet-8", '[["quantize",{"bits":4}]]'),
        ("lstm-32", '[["quantize",{}]]'),
        ("mlp-32", '[["share_weights",{}]]'),
    ],
)
def test_a_file_of_floats_answers_as_the_bundle_for_batches_of_any_length(name: str, recipe: str) -> None:
    bundle = after(name, recipe)
    file = onnx_file.write(bundle, images(bundle, 2))
    session, inputs = running.session(file.data), images(bundle, 7)
    expected = zoo.build(bundle)(inputs)
    for n in (1, 7):
        torch.testing.assert_close(running.answer(session, inputs[:n]), expected[:n], atol=1e-4, rtol=1e-4)
    assert file.integers == ()


def test_weights_in_codes_take_a_byte_each_and_decode_to_the_bundle_s_own() -> None:
    bundle = after("mlp-32", '[["quantize",{"bits":6,"scheme":"asymmetric"}]]')
    file = onnx_file.write(bundle, images(bundle, 2))
    held = {
        each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(file.data).graph.initializer
    }
    for name in ("fc1.weight", "fc2.weight"):
        codes = held[f"{name} codes at rest"]
        assert codes.itemsize == 1
        own = bundle.params[name]
        assert isinstance(own, AffineGrid)
        point = held.get(f"{name} point", 0)
        decoded = (codes.astype("float32") - point) * held[f"{name} each"]
        assert torch.equal(torch.tensor(decoded), own.decode())
    assert len(file.data) < len(onnx_file.write_floats(bundle, images(bundle, 2))) / 3.5
    assert set(file.floats.values()) == {FLOAT_INPUT}


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("unsigned", [SIGNED, True])
@pytest.mark.parametrize("recipe", [STATIC, SHIFTED])
def test_a_model_of_8_bits_gives_the_same_classes_and_multiplies_integers(
    recipe: str, unsigned: bool
) -> None:
    bundle = after("lenet-5-small", recipe)
    file = onnx_file.write(bundle, images(bundle, 2), unsigned=unsigned)
    inputs = images(bundle, 200)
    found, expected = running.answer(running.session(file.data), inputs), zoo.build(bundle)(inputs)
    # a sum in the middle between two codes may fall either way: then outputs move by a step or so
    assert float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())
    lead = expected.topk(2).values.diff().abs().flatten()
    assert bool(((found.argmax(1) == expected.argmax(1)) | (lead < 0.3)).all())
    layers = {f"{layer}.weight" for layer in ("conv1", "conv2", "fc1", "fc2")}
    assert set(file.integers) == layers
    assert floats.layers_on_integers(running.optimized(file.data), file.integers) == layers
    assert floats.float_operators(onnx.load_from_string(file.data), layers) == {}


def test_its_numbers_are_those_of_the_bundle_and_not_calibrated_again() -> None:
    bundle = after("lenet-5-small", SHIFTED)
    file = onnx_file.write(bundle, images(bundle, 2), unsigned=True)
    held = {
        each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(file.data).graph.initializer
    }
    for name in file.integers:
        own = bundle.params[name]
        assert isinstance(own, AffineGrid)
        assert float(held[f"{name} scale"]) == float(own.scale)
        steps = held[f"{name} codes"].astype(int) - int(held[f"{name} zero"])
        assert torch.equal(torch.tensor(steps), (own.codes - own.zero).long())
        layer = onnx_file.layer_of(name)
        bias = bundle.params[f"{layer}.bias"].decode().double()
        step = float(bundle.params[f"{layer}.input_quantizer.scale"].decode()) * float(own.scale)
        assert held[f"{name} bias codes"].dtype == "int32"
        assert (torch.tensor(held[f"{name} bias codes"]) * step - bias).abs().max() <= step * 0.51


def test_batch_norm_goes_into_scales_and_biases() -> None:
    bundle = after("resnet-8", STATIC)
    file = onnx_file.write(bundle, images(bundle, 2), unsigned=SATURATES)
    assert set(file.integers) == {"fc.weight", *(f"layer{i}.0.conv1.weight" for i in (1, 2, 3))}
    assert {file.floats[f"layer{i}.0.conv2.weight"] for i in (1, 2, 3)} == {FLOAT_OUTPUT}
    here = floats.layers_on_integers(running.optimized(file.data), file.integers)
    assert here == set(file.integers)
    rest = floats.float_operators(onnx.load_from_string(file.data), here)
    assert rest["Conv"] == 4
    assert rest["Add"] == 3
    inputs = images(bundle, 60)
    found, expected = running.answer(running.session(file.data), inputs), zoo.build(bundle)(inputs)
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_fewer_bits_and_bounds_are_kept_by_bounds_of_codes() -> None:
    bundle = after("lenet-5-small", '[["quantize",{"bits":4,"activations":"static","activation_bits":5}]]')
    file = onnx_file.write(bundle, images(bundle, 2))
    clips = [node for node in graph_of(file.data).values() if node.op_type == "Clip"]
    assert len(clips) == 4
    inputs = images(bundle, 200)
    found, expected = running.answer(running.session(file.data), inputs), zoo.build(bundle)(inputs)
    assert float((found.argmax(1) == expected.argmax(1)).float().mean()) > 0.97
    assert len(file.integers) == 4


def test_what_cannot_be_multiplied_as_codes_says_why() -> None:
    apart = after("lenet-5-small", '[["quantize",{"activations":"static","scheme":"asymmetric"}]]')
    file = onnx_file.write(apart, images(apart, 2))
    assert file.floats == {"conv1.weight": FAR_ZEROS, "conv2.weight": FAR_ZEROS}
    # ONNX Runtime would round weights by itself between quantized neighbours: they are kept from that
    grouped = after("mlp-32", '[["quantize",{"activations":"static","granularity":"group"}]]')
    file = onnx_file.write(grouped, images(grouped, 2))
    assert set(file.floats.values()) == {NO_CODES}
    inputs = images(grouped, 50)
    torch.testing.assert_close(
        running.answer(running.session(file.data), inputs), zoo.build(grouped)(inputs), atol=1e-3, rtol=1e-3
    )


def test_codes_beyond_their_bits_stay_floats() -> None:
    bundle = after("mlp-32", STATIC)
    grid = bundle.params["fc1.weight"]
    assert isinstance(grid, AffineGrid)
    odd = bundle.become({**bundle.params, "fc1.weight": replace(grid, codes=grid.codes * 9)})
    file = onnx_file.write(odd, images(odd, 2), unsigned=SATURATES)
    assert file.floats == {"fc1.weight": FAR_ZEROS}
    inputs = images(odd, 20)
    found, expected = running.answer(running.session(file.data), inputs), zoo.build(odd)(inputs)
    torch.testing.assert_close(found, expected, atol=0.3, rtol=0.02)


class Bounded(nn.Module):
    """ReLU6, an average, and a layer without a bias over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.Conv2d(6, 8, 3, groups=2)
        self.out = nn.Linear(8, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.second(F.relu6(4 * self.first(x)).clamp(max=3.0)))
        return self.out(x.flatten(2).transpose(1, 2)).mean(1)


def adopted(net: nn.Module, inputs: torch.Tensor, classes: int) -> tuple[Bundle, sets.Data]:
    labels = torch.arange(len(inputs)) % classes
    part = TensorDataset(inputs, labels)
    data = task_of((part, part, part), "data")
    bundle, _, _ = sources.adopt(net.eval(), data)
    return bundle, data


def test_a_net_of_the_user_s_with_other_bounds_and_products_of_sequences() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(40, 3, 8, 8)
    bundle, data = adopted(Bounded(), inputs, 4)
    bundle, _ = run(bundle, Recipe.from_key(STATIC), data)
    file = onnx_file.write(bundle, inputs[:2], unsigned=SATURATES)
    assert "out.weight" in file.integers
    assert floats.layers_on_integers(running.optimized(file.data), file.integers) == set(file.integers)
    found, expected = running.answer(running.session(file.data), inputs), zoo.build(bundle)(inputs)
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("kind", list(own_models.KINDS))
def test_nets_of_the_user_s_own_are_written(kind: str) -> None:
    data = task_of(own_models.parts(kind), kind)
    bundle, _, _ = sources.adopt(own_models.model(kind), data)
    bundle, _ = run(bundle, Recipe.from_key(STATIC), data)
    file = onnx_file.write(bundle, data.test.inputs(slice(0, 2)), unsigned=SATURATES)
    inputs = data.test.inputs()
    found, expected = running.answer(running.session(file.data), inputs), zoo.build(bundle)(inputs)
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max())


def test_a_net_that_the_exporter_does_not_know_is_refused_in_a_sentence() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.special.bessel_j0(x))

    inputs = torch.randn(12, 6)
    bundle, _ = adopted(Strange(), inputs, 4)
    with pytest.raises(SlimscopeError, match="can't be written as ONNX: UnsupportedOperatorError"):
        onnx_file.write(bundle, inputs)


def test_what_an_inner_graph_reads_is_kept_and_renamed() -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y", "inner")]
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    node = helper.make_node("Add", ["r", "w"], ["inner"])
    branch = helper.make_graph([node], "branch", [], ends[2:])
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
    ]
    fixed = [numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "w")]
    outer = helper.make_graph(nodes, "outer", [ends[0], flag], [ends[1]], fixed)
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph = Graph(model)
    graph.nodes.reverse()
    relu = graph.producer("r")
    assert relu is not None
    graph.remove(relu)
    session = running.session(graph.finish().SerializeToString())
    found = session.run(None, {"x": np.array([-3.0, 4.0], np.float32), "flag": np.array(True)})[0]
    assert found.tolist() == [-2.0, 6.0]


def test_no_file_names_a_place_of_this_machine() -> None:
    bundle = after("lenet-5-small", STATIC)
    file = onnx_file.write(bundle, images(bundle, 2))
    assert b"site-packages" not in file.data
    assert b"/engine/" not in file.data
    assert odd_models.__file__.encode() not in file.data
