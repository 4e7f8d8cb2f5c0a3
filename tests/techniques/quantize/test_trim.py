"""Trim: a smaller file in which no answer changes, unless some may."""

from __future__ import annotations

import functools

import pytest
import torch

import engine.techniques  # noqa: F401
from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run, technique
from engine.tensor import mantissas
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Bundle, Recipe, Step

DIGITS = sets.load("mnist")


@functools.cache
def example() -> Bundle:
    """The README's."""
    steps = (
        Step("prune_weights", {"sparsity": 0.9}),
        Step("quantize", {"bits": 5, "granularity": "channel"}),
    )
    bundle = zoo.load("lenet-300-100")
    for step in technique.complete(Recipe(steps)):
        bundle, _ = run.apply(bundle, step, DIGITS)
    return bundle


def test_the_readmes_file_is_smaller_and_no_validation_answer_changes() -> None:
    after, report = run.apply(example(), Step("trim", {"samples": 5000}), DIGITS)
    before = measure.predictions(example(), DIGITS.validation)
    assert torch.equal(measure.predictions(after, DIGITS.validation), before)
    assert packfile.size(example()).value <= 26_500
    assert packfile.size(after).value <= min(25_000, 0.95 * packfile.size(example()).value)
    assert {figure.name: figure.value for figure in report.figures}["answers changed"] == 0
    assert report.tables["layers"]["constant"].sum() + report.tables["layers"]["unread"].sum() > 0


def test_what_is_kept_of_each_number_is_what_the_report_says() -> None:
    after, report = run.apply(example(), Step("trim", {"dead": False}), DIGITS)
    bits = dict(zip(report.tables["numbers"]["what"], report.tables["numbers"]["mantissa"], strict=True))
    for name, param in after.params.items():
        was = example().params[name]
        if isinstance(param, AffineGrid) and isinstance(was, AffineGrid):
            assert torch.equal(param.codes, was.codes)
            assert torch.equal(param.scale, mantissas.rounded(was.scale, bits["scales"]))
        else:
            assert isinstance(param, Dense)
            assert torch.equal(param.values, mantissas.rounded(was.decode(), bits["biases and norms"]))


def test_more_answers_may_change_for_fewer_bytes_and_not_more_than_allowed() -> None:
    sizes = []
    for allowed in (0.0, 0.01):
        after, report = run.apply(example(), Step("trim", {"changed": allowed}), DIGITS)
        figures = {figure.name: figure.value for figure in report.figures}
        assert figures["answers changed"] <= allowed
        sizes.append(packfile.size(after).value)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("off", ["dead", "fewer_bits"])
def test_each_half_can_be_switched_off(off: str) -> None:
    _, report = run.apply(example(), Step("trim", {off: False, "samples": 500}), DIGITS)
    gone = report.tables["layers"]["outputs"].sum() - report.tables["layers"]["kept"].sum()
    assert (gone == 0) == (off == "dead")
    assert (len(report.tables["numbers"]) == 0) == (off == "fewer_bits")
