"""A model on integers alone: layer by layer at most a step from the simulated one, or refused."""

from __future__ import annotations

import own_models
import pytest
import torch
from machine import SATURATES
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.user_parts import task_of
from engine.figures import integer_only
from engine.figures.integer_only.program import compiled
from engine.figures.integer_only.values import Sums, added, averaged
from engine.file import onnx_file
from engine.file.onnx_file import running
from engine.net import sources, zoo
from engine.recipe.run import run
from engine.types import Bundle, Recipe, SlimscopeError

STATIC = '[["quantize",{"activations":"static"}]]'
SHIFTED = '[["quantize",{"activations":"static","scheme":"asymmetric"}]]'


def after(name: str, recipe: str) -> tuple[Bundle, sets.Samples]:
    data = sets.load(zoo.entry(name).data)
    return run(zoo.load(name), Recipe.from_key(recipe), data)[0], data.validation


def own(net: nn.Module, inputs: torch.Tensor, classes: int) -> tuple[Bundle, sets.Samples]:
    part = TensorDataset(inputs, torch.arange(len(inputs)) % classes)
    data = task_of((part, part, part), "own")
    bundle = sources.adopt(net.eval(), data)[0]
    return run(bundle, Recipe.from_key(STATIC), data)[0], data.test


# ---------------------------------------------------------------- beside the simulated model


@pytest.mark.parametrize("recipe", [STATIC, SHIFTED])
@pytest.mark.parametrize("name", ["mlp-32", "lenet-5-small"])
def test_codes_of_every_layer_are_within_a_step(name: str, recipe: str) -> None:
    bundle, validation = after(name, recipe)
    found = integer_only.compared(bundle, validation.stratified(300))
    layers = found.layers.set_index("layer")
    assert layers["largest_lsb"].iloc[0] == 0  # nothing but rounding comes before the first layer
    assert (layers["largest_lsb_alone"] <= 1).all()
    assert (layers["mean_lsb"] < 0.02).all()
    assert layers["fits"].all()
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures["equal predictions"] >= 0.99
    assert figures["accuracy on integers"] == pytest.approx(figures["accuracy, simulated"], abs=0.01)


def test_residual_sums_averages_and_batch_norm_are_done() -> None:
    bundle, validation = after("resnet-8", SHIFTED)
    found = integer_only.compared(bundle, validation.stratified(20))
    assert len(found.layers) == 8
    assert (found.layers["largest_lsb_alone"] <= 1).all()
    assert found.layers["fits"].all()


class Grouped(nn.Module):
    """Groups, strides, ReLU6 and a pool with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.norm, self.out = nn.BatchNorm2d(12), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu6(self.first(x)), 3, 2, 1)
        return self.out(F.relu(self.norm(self.second(x))).mean((2, 3)))


def test_groups_bounds_and_padded_pools() -> None:
    torch.manual_seed(0)
    net = Grouped()
    net.norm.weight.data[:] = torch.linspace(-2, 2, 12)  # some turn signs, none is zero
    bundle, samples = own(net, torch.randn(60, 3, 16, 16), 4)
    found = integer_only.compared(bundle, samples)
    assert found.layers["layer"].tolist() == ["first", "second", "out"]
    assert (found.layers["largest_lsb_alone"] <= 1).all()


def test_it_is_within_a_step_of_onnx_runtime_on_the_same_integers() -> None:
    bundle, validation = after("lenet-5-small", SHIFTED.replace("asymmetric", "symmetric"))
    inputs = validation.inputs(slice(0, 100))
    program = compiled(bundle, inputs[:2])
    outputs, _ = program.run(inputs)
    theirs = running.answer(
        running.session(onnx_file.write(bundle, inputs[:2], unsigned=SATURATES).data), inputs
    )
    assert float((outputs - theirs).abs().max()) < 0.02 * float(theirs.abs().max())
    assert float((outputs.argmax(1) == theirs.argmax(1)).float().mean()) >= 0.99


def test_the_first_sample_that_differs_is_named() -> None:
    one = torch.tensor([[1.0, 0.0], [0.25, 0.0], [0.0, 3.0]])
    other = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 3.0]])
    assert integer_only._first(one, other) == (
        "Sample 1 of these 3 is the first of 1 that differ: class 0 simulated, ahead by 0.25, and 1 on "
        "integers, ahead by 0.5."
    )
    assert integer_only._first(one, one) == "Both put all 3 samples into the same classes."


def test_sums_that_may_leave_32_bits_are_named() -> None:
    net = nn.Sequential(nn.Linear(140_000, 2, bias=False))
    net[0].weight.data[:] = 1.0
    bundle, samples = own(net, torch.ones(4, 140_000), 2)
    found = integer_only.compared(bundle, samples)
    assert not found.layers["fits"].any()
    assert found.layers["largest_sum"].tolist() == [140_000 * 127 * 128]
    assert found.notes[0].startswith("Sums of 0 may leave 32 bits")


# ---------------------------------------------------------------- by hand


def test_a_residual_sum_by_hand() -> None:
    one = Sums(torch.tensor([[4, -8]]), torch.tensor([0.5, 0.25], dtype=torch.float64), "a", 8)
    other = Sums(torch.tensor([[1, 3]]), torch.tensor(1.0, dtype=torch.float64), "b", 4)
    found = added(one, other)
    real = (found.values * found.each()).tolist()
    assert real == [[pytest.approx(3.0, abs=1e-7), pytest.approx(1.0, abs=1e-7)]]
    assert int(found.values.abs().max()) < found.reach <= 2**30


def test_an_average_is_a_sum_on_a_finer_scale_and_never_too_wide() -> None:
    values = torch.tensor([[[1, 2, 3, 6]]])
    found = averaged(Sums(values, torch.tensor(2.0, dtype=torch.float64), "a", 10), [2], keep=False)
    assert (found.values.tolist(), float(found.scale)) == ([[12]], 0.5)
    wide = averaged(
        Sums(values * 2**27, torch.tensor(2.0, dtype=torch.float64), "a", 2**30), [-1], keep=False
    )
    assert wide.reach < 2**31
    assert float(wide.values * wide.scale) == pytest.approx(2**27 * 12 / 2, rel=1e-6)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("name", "recipe", "said"),
    [
        ("lstm-32", STATIC, "lstm-32 has a recurrent layer"),
        ("mlp-32", '[["quantize",{}]]', "layer 'fc1' is not run on integers: nothing rounds what enters it"),
        ("mlp-32", '[["quantize",{"activations":"dynamic"}]]', "nothing rounds what enters it"),
        ("mlp-32", '[["quantize",{"bits":9,"activations":"static"}]]', "no.* codes of at most 8 bits"),
        ("mlp-32", "[]", "layer 'fc1' is not run on integers"),
    ],
)
def test_what_has_no_integers_is_refused_in_a_sentence(name: str, recipe: str, said: str) -> None:
    bundle, validation = after(name, recipe)
    with pytest.raises(SlimscopeError, match=said):
        integer_only.compared(bundle, validation.stratified(10))


@pytest.mark.parametrize("kind", list(own_models.KINDS))
def test_nets_of_the_user_s_own_run_within_a_step_or_say_why_not(kind: str) -> None:
    refused = {
        "transformer": "attention",
        "GRU": "a recurrent layer",
        "convolutions 1-D": "Erf|Div|Mul",
        "branches": "Concat",
    }
    data = task_of(own_models.parts(kind), kind)
    bundle = sources.adopt(own_models.model(kind), data)[0]
    bundle = run(bundle, Recipe.from_key(STATIC), data)[0]
    if kind in refused:
        with pytest.raises(SlimscopeError, match=refused[kind]):
            integer_only.compared(bundle, data.test)
    else:
        found = integer_only.compared(bundle, data.test)
        assert len(found.layers) == 20
        assert (found.layers["largest_lsb_alone"] <= 1).all()


def test_what_is_not_done_is_named() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 4))
    bundle, samples = own(net, torch.randn(20, 6), 4)
    with pytest.raises(SlimscopeError, match="has Sigmoid behind 0: that is not run on integers here"):
        integer_only.compared(bundle, samples)
