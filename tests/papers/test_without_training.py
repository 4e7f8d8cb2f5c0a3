"""Roundings without training run again: what a run holds on few images, and what its numbers mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.net import zoo
from engine.papers import banner, cai, krishnamoorthi
from engine.papers.paired import drawn
from engine.recipe.run import apply
from engine.tensor.formats import AffineGrid, Rows
from engine.types import Progress, Step, weight_layers


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Data:
    whole = sets.load("cifar10")
    parts = (part.stratified(100) for part in (whole.train, whole.validation, whole.test))
    few = Data(whole.name, *parts, classes=whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: few)
    return few


# ---------------------------------------------------------------- 8 bits


def test_a_run_in_8_bits_rounds_all_that_is_multiplied(few: Data, tmp_path: Path) -> None:
    net = krishnamoorthi.NETS[0]
    rounding = {**krishnamoorthi.RECIPE["quantize"], "calibration": 20}
    outcome = krishnamoorthi.run({"nets": [net], "quantize": rounding}, 0, Progress(), tmp_path)
    own = {claim.name for claim in krishnamoorthi.INT8.claims if net in claim.name}
    assert set(outcome.figures) == own
    row = outcome.tables[net].set_index("part").loc["test"]
    change = outcome.figures[krishnamoorthi.CHANGE[net]]
    assert change == 100 * row["change"]
    assert outcome.figures[krishnamoorthi.LEAST[net]] == 100 * row["change low"] < change
    after, _ = apply(zoo.load("resnet-8"), Step("quantize", rounding), few)
    assert all(isinstance(after.params[name], AffineGrid) for name in weight_layers(after).values())
    inputs = {own["layer"]: own["bits"] for verb, own in after.arch.edits if verb == "quantize_input"}
    assert inputs == dict.fromkeys(weight_layers(after), 8)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(-0.1, 0.05, "reproduced"), (-0.11, 0.0, "not reached"), (0.0, -0.2, "not reached")],
)
def test_the_verdict_on_8_bits(first: float, second: float, verdict: str) -> None:
    changes = zip(krishnamoorthi.NETS, (first, second), strict=True)
    ours = {krishnamoorthi.CHANGE[net]: [9.0, change, -9.0] for net, change in changes}
    assert krishnamoorthi.judge(ours) == verdict


# ---------------------------------------------------------------- ACIQ


def test_both_ways_have_the_same_bits_and_ends(few: Data) -> None:
    whole = zoo.load("resnet-8")
    recipe = {**banner.RECIPE, "calibration": 20}
    ends = [*weight_layers(whole)][:: len(weight_layers(whole)) - 1]
    for way, kind in (("min-max", AffineGrid), ("ACIQ", Rows)):
        after = banner.rounded(whole, way, recipe, drawn(few, 20, 0))
        bits = {own["layer"]: own["bits"] for verb, own in after.arch.edits if verb == "quantize_input"}
        assert bits == {label: 8 if label in ends else 4 for label in weight_layers(whole)}
        for label, name in weight_layers(after).items():
            param = after.params[name]
            assert isinstance(param, AffineGrid if label in ends else kind)
            if isinstance(param, Rows):
                assert float(param.tensors()["bits"].double().mean()) <= 4
            elif isinstance(param, AffineGrid):
                assert param.bits == (8 if label in ends else 4)
    scale = "layer1.0.conv2.input_quantizer.scale"
    again, other = (banner.rounded(whole, "min-max", recipe, drawn(few, 20, seed)) for seed in (0, 1))
    first = banner.rounded(whole, "min-max", recipe, drawn(few, 20, 0)).params[scale].decode()
    assert torch.equal(again.params[scale].decode(), first)
    assert not torch.equal(other.params[scale].decode(), first)


def test_a_run_of_aciq_says_what_is_won_back(few: Data, tmp_path: Path) -> None:
    recipe = {**banner.RECIPE, "net": "resnet-8", "calibration": 20}
    figures = banner.run(recipe, 0, Progress(), tmp_path).figures
    assert set(figures) == {claim.name for claim in banner.ACIQ.claims}
    won = figures[banner.CLIPPED] - figures[banner.MINMAX]
    assert figures[banner.GAIN] == pytest.approx(won)
    assert figures[banner.WON] == pytest.approx(won / -figures[banner.MINMAX])
    assert figures[banner.LEAST] < figures[banner.GAIN]


@pytest.mark.parametrize(
    ("won", "least", "verdict"),
    [(0.5, 0.1, "reproduced"), (0.49, 3.0, "not reached"), (0.9, 0.0, "not reached")],
)
def test_the_verdict_on_aciq(won: float, least: float, verdict: str) -> None:
    assert banner.judge({banner.WON: [9.0, won, -9.0], banner.LEAST: [9.0, least, -9.0]}) == verdict


# ---------------------------------------------------------------- ZeroQ


def test_a_run_of_zeroq_compares_three_sources_of_ranges(few: Data, tmp_path: Path) -> None:
    recipe = {**cai.RECIPE, "net": "resnet-8", "images": 20, "steps": 10}
    outcome = cai.run(recipe, 0, Progress(), tmp_path)
    figures = outcome.figures
    assert set(figures) == {claim.name for claim in cai.ZEROQ.claims}
    assert len(outcome.tables["models"]) == len(cai.CHANGE)
    assert len(outcome.tables["distillation"]) == 10
    for bits in cai.BITS:
        shown, real, noise = (figures[cai.CHANGE[bits, source]] for source in cai.SOURCES)
        assert figures[cai.BEHIND[bits]] == pytest.approx(shown - real)
        assert figures[cai.AHEAD[bits]] == pytest.approx(shown - noise)
    assert figures[cai.LEAST] < figures[cai.AHEAD[4]]


@pytest.mark.parametrize(
    ("behind", "ahead", "verdict"),
    [(-0.5, 0.1, "reproduced"), (-0.51, 3.0, "not reached"), (0.2, 0.0, "not reached")],
)
def test_the_verdict_on_zeroq(behind: float, ahead: float, verdict: str) -> None:
    ours = {cai.BEHIND[8]: [9.0, behind, -9.0], cai.LEAST: [9.0, ahead, -9.0]}
    assert cai.judge(ours) == verdict
