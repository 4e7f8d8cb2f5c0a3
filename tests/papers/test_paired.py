"""Models compared with the whole one on the same samples, and draws of calibration samples."""

from __future__ import annotations

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import zoo
from engine.papers.paired import Paired, drawn, least
from engine.recipe.run import apply
from engine.types import Step


@pytest.fixture(scope="module")
def few() -> Data:
    whole = sets.load("mnist")
    parts = (part.stratified(200) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


def test_changes_are_paired_and_each_part_has_a_row(few: Data) -> None:
    bundle = zoo.load("mlp-32")
    two, three = (apply(bundle, Step("quantize", {"bits": bits}), None)[0] for bits in (2, 3))
    paired = Paired(bundle, few, validation=True)
    change, other = paired.add("two", two), paired.add("three", three)
    table = paired.table().set_index(["model", "part"])
    assert len(table) == 4
    assert paired.right() == 100 * measure.accuracy(bundle, few.test).value
    assert change.value == table.loc[("two", "test"), "change"]
    assert table.loc[("two", "test"), "accuracy"] == measure.accuracy(two, few.test).value
    assert table.loc[("two", "validation"), "accuracy"] == measure.accuracy(two, few.validation).value
    gain = paired.gain("two", "three")
    assert gain.value == pytest.approx(other.value - change.value)
    assert least(gain) == 100 * gain.spread[0] < 100 * gain.value  # type: ignore[index]


def test_a_seed_draws_training_samples_and_nothing_else(few: Data) -> None:
    one, again, other = (drawn(few, 50, seed) for seed in (0, 0, 1))
    assert len(one.train) == 50
    assert set(one.train.labels.tolist()) == set(range(10))
    assert torch.equal(one.train.images, again.train.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert one.test is few.test
    assert one.validation is few.validation
