"""Every order of some steps: all are there, each beginning once, with the figures of a run by hand."""

from __future__ import annotations

from math import factorial

import pytest

import engine.techniques  # noqa: F401
from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe import orders, technique
from engine.recipe.run import run
from engine.types import Recipe, SlimscopeError, Step

STEPS = [
    technique.step("prune_weights", sparsity=0.8),
    technique.step("quantize", bits=4),
    technique.step("share_weights", entries=8),
]
DIGITS = sets.load("mnist")


def test_each_beginning_is_worked_out_once_and_as_by_hand() -> None:
    sample = DIGITS.validation.stratified(500)
    bundle = zoo.load("mlp-32")
    found = list(orders.every_order(bundle, STEPS, DIGITS, sample))
    assert len(found) == len({each.steps for each in found}) == 3 + 6 + 6
    assert sum(len(each.steps) == 3 for each in found) == factorial(3)
    for each in found[::4]:
        after, _ = run(bundle, Recipe(each.steps), DIGITS)
        assert each.size == packfile.size(after)
        assert each.accuracy == measure.accuracy(after, sample)
    sizes = {each.size.value for each in found if each.size and len(each.steps) == 3}
    assert len(sizes) > 1  # the order matters


def test_what_cannot_follow_is_said_and_nothing_comes_after_it() -> None:
    steps = [technique.step("prune_filters"), technique.step("quantize", bits=4)]
    found = list(orders.every_order(zoo.load("lstm-32"), steps, DIGITS, DIGITS.validation.stratified(100)))
    assert [[step.technique for step in each.steps] for each in found if each.problem] == [
        ["prune_filters"],
        ["quantize", "prune_filters"],
    ]
    assert "recurrent" in found[0].problem


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([Step("quantize", {"bits": bits}) for bits in range(2, 7)], "at most 4"),
        ([STEPS[0], STEPS[0]], "different"),
        ([Step("finetune")], "trains"),
    ],
)
def test_steps_that_cannot_be_ordered_are_refused(steps: list[Step], says: str) -> None:
    with pytest.raises(SlimscopeError, match=says):
        next(orders.every_order(zoo.load("mlp-32"), steps, DIGITS, DIGITS.validation))
