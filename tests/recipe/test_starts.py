"""Start recipes: every model of the zoo has one that can be read, and that loses at most a point."""

from __future__ import annotations

import json

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe import starts
from engine.recipe.run import run
from engine.types import Recipe

STORED = json.loads(starts.FILE.read_text())["models"]


@pytest.mark.parametrize("model", zoo.trained())
def test_a_start_is_known_and_loses_at_most_a_point(model: str) -> None:
    assert starts.recipe(model).steps
    assert max(STORED[model]["validation loss"], STORED[model]["test loss"]) <= 0.01


def test_the_stored_bytes_and_loss_are_those_of_the_recipe() -> None:
    bundle, data = zoo.load("mlp-32"), sets.load("mnist")
    after = run(bundle, starts.recipe("mlp-32"), data)[0]
    assert len(packfile.pack(after)) == STORED["mlp-32"]["bytes"]
    loss = measure.accuracy(bundle, data.test).value - measure.accuracy(after, data.test).value
    assert loss == pytest.approx(STORED["mlp-32"]["test loss"], abs=5e-4)  # processors round differently


def test_a_model_that_is_not_of_the_zoo_starts_empty() -> None:
    assert starts.recipe("file-0123456789abcdef") == Recipe()
