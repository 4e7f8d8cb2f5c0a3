"""Trained results that come with slimscope: found by what they are of, and as good as their reports say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import measure
from engine.jobs import recipes, shipped
from engine.net import zoo
from engine.recipe import migrate, technique
from engine.types import Recipe

FILES = sorted(shipped.FOLDER.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem[:8])
def test_each_file_is_of_a_default_and_is_found(file: Path) -> None:
    about = json.loads(file.read_text())
    recipe = migrate.read(about["recipe"])
    assert recipe in shipped.recipes_of(about["model"])
    data = sets.load(zoo.entry(about["model"]).data)
    assert shipped.path(zoo.load(about["model"]), recipe, data) == file.with_suffix(".slim")
    assert recipes.missing(about["model"], recipe, zoo.entry(about["model"]).data) is None


def test_a_fine_tuned_model_is_as_accurate_as_its_curve_says_and_keeps_its_zeros() -> None:
    model, data = zoo.load("lenet-300-100"), sets.load("mnist")
    recipe = technique.complete(Recipe((technique.step("prune_weights"), technique.step("finetune"))))
    found = shipped.get(model, recipe, data)
    assert found is not None
    bundle, report = found
    said = report.tables["curve"]["validation accuracy"].max()
    measured = measure.accuracy(bundle, data.validation).value
    assert measured == pytest.approx(said, abs=5 / len(data.validation))  # other processors round otherwise
    assert sum(int((p.decode() == 0).sum()) for p in bundle.params.values()) >= 0.89 * 266_200


def test_other_settings_are_not_found() -> None:
    model, data = zoo.load("lenet-300-100"), sets.load("mnist")
    steps = (technique.step("prune_weights", sparsity=0.91), technique.step("finetune"))
    assert shipped.get(model, technique.complete(Recipe(steps)), data) is None
