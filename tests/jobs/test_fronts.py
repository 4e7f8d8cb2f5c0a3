"""The points of all techniques on a model: stored ones, kept ones, and the jobs that measure the others."""

from __future__ import annotations

import re

import pytest

from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.jobs import curves, dates, fronts, scans, store, tasks
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Progress, Recipe, SlimscopeError

MODEL, SMALL = "lenet-300-100", "mlp-32"
BOTH = '[["prune_weights",{"sparsity":0.5}],["quantize",{"bits":6}]]'


def spec() -> str:
    return zoo.entry(SMALL).data


def test_the_points_are_the_stored_ones_each_with_its_recipe():
    of = fronts.courses(MODEL, "mnist")
    rows = fronts.points(of)
    assert all(row["stored"] for row in rows)
    assert len({row["recipe"] for row in rows}) == len(rows)
    assert {row["n"] for row in rows} == {5000}
    for name in ("quantize", "prune_weights"):
        stored = curves.stored(curves.alone(MODEL, "mnist", name))
        mine = {row["value"]: row for row in rows if row["technique"] == name}
        assert {one["value"] for one in stored} == {None, *mine}
        for one in stored[1:]:
            assert mine[one["value"]]["bytes"] == one["bytes"]
            step = Recipe.from_key(mine[one["value"]]["recipe"]).steps[0]
            assert step.technique == name
            assert one["value"] in step.settings.values()


def test_the_original_is_one_point_without_a_technique():
    originals = [row for row in fronts.points(fronts.courses(MODEL, "mnist")) if row["technique"] == ""]
    assert [row["recipe"] for row in originals] == ["[]"]


def test_a_recipe_is_measured_on_the_samples_of_the_curves_and_kept():
    assert fronts.point(SMALL, Recipe.from_key(BOTH), spec()) is None
    payload = {"model": SMALL, "data": spec(), "recipe": BOTH}
    row = tasks.perform("point", payload, Progress())
    bundle = run(zoo.load(SMALL), technique.complete(Recipe.from_key(BOTH)), sets.load(spec()))[0]
    validation = sets.load(spec()).validation
    assert row["n"] == curves.alone(SMALL, spec(), "quantize").n == len(validation)
    assert row["accuracy"] == measure.accuracy(bundle, validation).value
    assert row["bytes"] == packfile.size(bundle).value
    assert row["technique"] == fronts.SEVERAL
    kept = fronts.point(SMALL, Recipe.from_key(BOTH), spec())
    assert (kept["bytes"], kept["accuracy"]) == (row["bytes"], row["accuracy"])


def test_a_recipe_that_must_be_trained_first_is_refused():
    recipe = '[["finetune",{"epochs":7}]]'
    with pytest.raises(SlimscopeError, match=r"step 1 \(finetune\) is not trained yet"):
        tasks.perform("point", {"model": SMALL, "data": spec(), "recipe": recipe}, Progress())


def test_a_model_without_stored_points_is_measured_a_few_for_each_technique(monkeypatch):
    monkeypatch.setattr(curves, "stored", lambda of: [])
    monkeypatch.setattr(fronts, "FEW", 3)
    monkeypatch.setattr(
        technique, "REGISTRY", {n: k for n, k in technique.REGISTRY.items() if n in ("quantize", "finetune")}
    )
    of = fronts.courses(SMALL, spec())
    assert [one.step.technique for one in fronts.missing(of)] == ["quantize"], "what trains is not measured"
    found: list[float] = []
    payload = {"model": SMALL, "data": spec()}
    answer = tasks.perform("front", payload, Progress(lambda share, row: found.append(share)))
    assert answer["techniques"] == ["quantize"]
    assert answer["refused"] == {}
    assert found == sorted(found)
    assert fronts.missing(of) == []
    rows = [row for row in fronts.points(of) if row["technique"] == "quantize"]
    assert len(rows) == 3
    assert not any(row["stored"] for row in rows)
    assert fronts.measured_on(SMALL, of) >= dates.stored(SMALL)
    monkeypatch.setattr(scans, "measuring", lambda *given: pytest.fail("measured twice"))
    tasks.perform("front", payload, Progress())


def test_a_technique_that_does_not_fit_is_named_with_the_reason(monkeypatch):
    monkeypatch.setattr(curves, "stored", lambda of: [])
    monkeypatch.setattr(technique, "REGISTRY", {"prune_channels": technique.get("prune_channels")})
    payload = {"model": "lstm-32", "data": zoo.entry("lstm-32").data}
    answer = tasks.perform("front", payload, Progress())
    assert set(answer["refused"]) == {"prune_channels"}
    assert "prune_channels" in answer["refused"]["prune_channels"]


def test_the_day_of_the_newest_result_is_told_and_none_without_any():
    store.put("a-key-of-today", 1)
    assert store.newest(["a-key-of-today", "no-such-key"]) == store.newest(["a-key-of-today"]) != ""
    assert store.newest(["no-such-key"]) == ""


def test_every_stored_curve_has_its_day_and_a_new_one_is_written_beside_the_others(tmp_path):
    models = {path.stem for path in curves.FOLDER.glob("*.json")}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", dates.stored(model)) for model in models)
    assert dates.stored("no-such-model") == ""
    (tmp_path / dates.NAME).write_text("a\t2020-01-02\nb\t2020-01-03\n")
    dates.note("b", tmp_path)
    assert dates.stored("a", tmp_path) == "2020-01-02"
    assert dates.stored("b", tmp_path) > "2020-01-03"
