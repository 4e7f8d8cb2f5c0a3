"""Ternarize and its bits on a net."""

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


@pytest.mark.parametrize(("granularity", "most"), [("tensor", 1), ("channel", 300)])
def test_every_output_has_three_values(net: Bundle, granularity: str, most: int) -> None:
    after, report = applied(net, Step("ternarize", {"granularity": granularity}))
    for weight in weight_layers(net).values():
        values = after.params[weight].decode()
        assert len(values.abs().unique()) <= most + 1
        assert all(len(row.abs().unique()) <= 2 for row in values.flatten(1))
        assert torch.equal(values.sign().abs() * net.params[weight].decode().sign(), values.sign())
    assert report.figures[2].value == pytest.approx(
        sum(report.tables["layers"]["zeros"]) / sum(report.tables["layers"]["weights"])
    )


def test_the_exact_threshold_never_loses_more_than_the_rule(net: Bundle) -> None:
    exact, rule = (
        applied(net, Step("ternarize", {"threshold": way}))[1].tables["layers"]["mse"]
        for way in ("exact", "rule")
    )
    assert bool((exact < rule).all())


def test_the_file_takes_less_than_log2_of_three_bits_a_weight(net: Bundle) -> None:
    after, _ = applied(net, Step("ternarize", {"granularity": "tensor"}))
    data = packfile.pack(after)
    assert 8 * (len(data) - 4 * 410 - 1500) / 266_200 < 1.585
    assert packfile.unpack(data).fingerprint == after.fingerprint
