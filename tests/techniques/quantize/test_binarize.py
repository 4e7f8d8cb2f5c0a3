"""Binarize and its bits on a net."""

from __future__ import annotations

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run
from engine.types import Bundle, Report, Step, weight_layers


def applied(bundle: Bundle, step: Step) -> tuple[Bundle, Report]:
    return run.apply(bundle, step, None)


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("lenet-300-100")


def test_each_output_is_its_mean_magnitude_with_signs(net: Bundle) -> None:
    after, _ = applied(net, Step("binarize", {}))
    for weight in weight_layers(net).values():
        values = net.params[weight].decode()
        mean = values.double().abs().mean(1, keepdim=True).float()
        assert torch.equal(after.params[weight].decode(), values.sign() * mean)


def test_no_other_scale_loses_less(net: Bundle) -> None:
    """The closed form of XNOR-Net against scales beside it."""
    after, report = applied(net, Step("binarize", {"granularity": "tensor"}))
    values = net.params["fc1.weight"].decode().double()
    best = float(report.tables["layers"]["mse"][0])
    scale = float(after.params["fc1.weight"].tensors()["scale"])
    for factor in (0.99, 1.01):
        assert float((values - values.sign() * scale * factor).square().mean()) > best


def test_the_file_takes_a_bit_a_weight_and_zeros_stay(net: Bundle) -> None:
    after, report = applied(net, Step("binarize", {"granularity": "tensor"}))
    assert 8 * len(packfile.pack(after)) / 266_200 < 1.15
    assert report.figures[0].value == pytest.approx(1.0, abs=0.001)
    pruned = applied(net, Step("prune_weights", {"sparsity": 0.5}))[0]
    again, said = applied(pruned, Step("binarize", {}))
    for weight in weight_layers(net).values():
        zeros = pruned.params[weight].decode() == 0
        assert torch.equal(again.params[weight].decode() == 0, zeros)
    assert "Exact zeros are a third value in fc1, fc2, fc3." in said.notes
