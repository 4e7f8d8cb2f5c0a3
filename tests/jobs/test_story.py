"""The guided story: stored numbers measured anew, and a waterfall whose parts add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.jobs import shipped, story
from engine.net import zoo
from engine.recipe import run
from engine.types import Recipe

MODELS = sorted(file.stem for file in story.FOLDER.glob("*.json"))


@given(some.lists(some.tuples(some.text(max_size=5), some.integers(0, 10**12)), min_size=1))
def test_the_parts_of_the_waterfall_add_up_after_every_step(steps: list[tuple[str, int]]) -> None:
    parts = story.waterfall(steps)
    assert [name for name, _ in parts] == [name for name, _ in steps]
    for end, (_, size) in enumerate(steps, 1):
        assert sum(part for _, part in parts[:end]) == size


def test_there_is_a_story_to_tell() -> None:
    assert "lenet-300-100" in MODELS


@pytest.mark.parametrize("model", MODELS)
def test_the_story_goes_from_the_original_to_the_smallest_file(model: str) -> None:
    told = story.stored(model)
    assert told is not None
    steps = story.steps(told)
    assert [name for name, _ in steps] == ["original", "pruned", "tuned", "rounded"]
    assert steps[0][1] == packfile.size(zoo.load(model)).value
    assert sum(part for _, part in story.waterfall(steps)) == steps[-1][1]
    assert steps[-1][1] == min(row["bytes"] for row in told["rows"])


def test_stored_numbers_are_what_is_measured() -> None:
    told = story.stored("lenet-300-100")
    assert told is not None
    model, data = zoo.load("lenet-300-100"), sets.load("mnist")
    found = shipped.get(model, story.tuned(), data)
    assert found is not None
    rounded = run.apply(found[0], story.rounded().steps[-1], data)[0]
    rows = {(row["chapter"], row.get("sparsity")): row for row in told["rows"]}
    cut = run.run(model, story.pruned(0.95), data)[0]
    made = {("pruned", 0.95): cut, ("tuned", None): found[0], ("rounded", None): rounded}
    for place, bundle in made.items():
        row = rows[place]
        assert Recipe.from_key(row["recipe"]).key == row["recipe"]
        assert row["bytes"] == packfile.size(bundle).value
        for part, samples in (("validation", data.validation), ("test", data.test)):
            again = measure.accuracy(bundle, samples).value
            assert row[part]["n"] == len(samples)
            assert again == pytest.approx(
                row[part]["value"], abs=5 / len(samples)
            )  # processors round otherwise
