"""Number formats as a step: the recipe's weights become the format's numbers, and the file holds them."""

from __future__ import annotations

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run
from engine.tensor.formats import Levels
from engine.tensor.number_lines import FREE, tiles_of
from engine.tensor.number_systems import SYSTEMS
from engine.types import Bundle, Report, Step, weight_layers

NAMES = [name for name in SYSTEMS if name != "ternary"]


def applied(bundle: Bundle, step: Step) -> tuple[Bundle, Report]:
    return run.apply(bundle, step, None)


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("lenet-300-100")


@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_the_formats_numbers_at_about_its_bits(name: str, net: Bundle) -> None:
    after, report = applied(net, Step("number_format", {"number": name}))
    data = packfile.pack(after)
    again = packfile.unpack(data)
    assert all(torch.equal(a, b) for a, b in zip(again.state().values(), after.state().values(), strict=True))
    bits, weights = report.figures[0].value, sum(report.tables["layers"]["weights"])
    assert len(data) < 1.01 * (bits * weights / 8 + 4 * 410) + 2000  # biases and head beside the weights
    assert report.tables["layers"]["saturated"].max() <= (
        0.1 if "mx" in name or name == "power_of_two" else 0
    )


@pytest.mark.parametrize("name", NAMES)
def test_exact_zeros_stay(name: str, net: Bundle) -> None:
    pruned = applied(net, Step("prune_weights", {"sparsity": 0.8}))[0]
    after = applied(pruned, Step("number_format", {"number": name}))[0]
    for weight in weight_layers(net).values():
        was, now = pruned.params[weight].decode(), after.params[weight].decode()
        assert not now[was == 0].any()


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_halves_are_those_of_torch(name: str, net: Bundle) -> None:
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[name]
    after = applied(net, Step("number_format", {"number": name}))[0]
    for weight in weight_layers(net).values():
        assert torch.equal(after.params[weight].decode(), net.params[weight].decode().to(kind).float())


def test_scaled_fp8_is_that_of_torch(net: Bundle) -> None:
    step = Step("number_format", {"number": "fp8_e4m3", "granularity": "tensor"})
    after = applied(net, step)[0]
    for weight in weight_layers(net).values():
        values, param = net.params[weight].decode(), after.params[weight]
        assert isinstance(param, Levels)
        scale = values.abs().max() / 448
        assert torch.equal(param.scale, scale.reshape(1))
        theirs = (values / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
        assert torch.equal(param.decode(), theirs)


def test_nf4_loses_less_of_normal_weights_than_int4_and_that_less_than_powers_of_two(net: Bundle) -> None:
    """The claim of QLoRA, on a trained layer: the levels lie where the weights are."""
    lost = {
        name: applied(net, Step("number_format", {"number": name}))[1].figures[1].value
        for name in ("nf4", "int4", "power_of_two")
    }
    assert lost["nf4"] < lost["int4"] < lost["power_of_two"]


def test_formats_with_blocks_have_them_of_32_whatever_else_is_set() -> None:
    assert tiles_of("mxfp4", "tensor", 8).size == (32,)
    assert tiles_of("bf16", "group", 8).kind == "tensor"
    assert {tiles_of(name, "channel", 8).kind for name in FREE} == {"axis"}
