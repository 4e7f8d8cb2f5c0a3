"""A large model that runs, compressed by a job: what it has is what the recipe gives in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import engine.techniques  # noqa: F401
from engine.data import sets
from engine.figures import count, latency, measure
from engine.file import packfile
from engine.jobs import extras, layerwise, recipes, store, streaming, tasks, testset
from engine.net import zoo
from engine.recipe import run, technique
from engine.types import Progress, Recipe, SlimscopeError, Step

MODEL, DATA = "lenet-5-small", "mnist"


@pytest.fixture(autouse=True)
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(layerwise, "LARGE", 1000)
    monkeypatch.setattr(streaming, "SETTLE", 0.0)


def payload(*steps: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    recipe = technique.complete(Recipe(tuple(Step(*step) for step in steps)))
    return {"model": MODEL, "data": DATA, "recipe": recipe.key, **more}


RECIPES = (
    (("prune_weights", {"sparsity": 0.5}), ("quantize", {"bits": 4})),
    (("quantize", {"bits": 5}), ("prune_weights", {"sparsity": 0.5})),
    (("prune_filters", {"removed": 0.5}), ("low_rank", {"energy": 0.8})),
    (("optimal_brain_damage", {"sparsity": 0.3}),),
)


@pytest.mark.parametrize("steps", RECIPES)
def test_every_technique_works_on_it_and_its_accuracy_is_that_of_its_file(steps: Any) -> None:
    what = payload(*steps)
    recipe = Recipe.from_key(what["recipe"])
    bundle, reports = run.run(zoo.load(MODEL), recipe, sets.load(DATA))
    tasks.perform("accuracy", what, Progress())
    figures, tensors, path = streaming.written(MODEL, recipe, DATA) or pytest.fail("it is not written")
    assert path.read_bytes() == packfile.pack(bundle)
    assert figures["parameters"].value == count.parameters(bundle).value
    assert figures["sparsity"].value == count.sparsity(bundle).value
    assert sum(tensors.values()) == figures["file size"].value == len(packfile.pack(bundle))
    found = testset.full_accuracy(zoo.load(MODEL), recipe, sets.load(DATA)) or pytest.fail(
        "it is not measured"
    )
    assert found["figures"][0]["value"] == measure.accuracy(bundle, sets.load(DATA).test).value
    made = streaming.made(MODEL, recipe, DATA) or pytest.fail("it is not there")
    assert made[0].fingerprint == bundle.fingerprint
    assert made[0].lineage == bundle.lineage
    assert [report.step for report in made[1]] == [report.step for report in reports]
    assert [set(report.tables) for report in made[1]] == [set(report.tables) for report in reports]


def test_a_file_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    what = payload(("prune_weights", {"sparsity": 0.5}))
    first = tasks.perform("write", what, Progress())
    monkeypatch.setattr(recipes, "make", lambda *args: pytest.fail("it was made again"))
    assert tasks.perform("write", what, Progress()) == first
    tasks.perform("accuracy", what, Progress())


def test_who_waits_for_another_process_can_be_cancelled() -> None:
    what = payload(("prune_weights", {"sparsity": 0.5}))
    key = streaming._key(MODEL, Recipe.from_key(what["recipe"]), DATA)
    with store.claimed(key), pytest.raises(SlimscopeError, match="cancelled"):
        tasks.perform("write", what, Progress(cancelled=lambda: True))


def test_a_step_that_is_not_trained_is_named() -> None:
    steps = (("prune_weights", {}), ("finetune", {"epochs": 1}), ("quantize", {}))
    what = payload(*steps)
    recipe = Recipe.from_key(what["recipe"])
    assert recipes.missing(MODEL, Recipe(recipe.steps[:1]), DATA) is None
    missing = recipes.missing(MODEL, recipe, DATA)
    assert missing is not None
    assert (missing.number, missing.recipe) == (2, Recipe(recipe.steps[:2]))
    for kind in ("write", "accuracy"):
        with pytest.raises(SlimscopeError, match=r"step 2 \(finetune\) is not trained yet"):
            tasks.perform(kind, what, Progress())


def test_ledger_and_latency_come_from_a_job_too() -> None:
    what = payload(("prune_weights", {"sparsity": 0.9}))
    ledger = tasks.perform("ledger", what, Progress())
    sizes = {figure["name"]: figure["value"] for figure in ledger["figures"]}
    written = streaming.written(MODEL, Recipe.from_key(what["recipe"]), DATA)
    assert written is not None
    assert written[0]["file size"].value in sizes.values()
    rows = extras.rows_of(tasks.perform("latency", {**what, "batch": 1}, Progress()))
    assert rows[0].form == latency.ORIGINAL
    assert all(row.time.value > 0 for row in rows if row.time)
    assert rows[0].speed_up is None
