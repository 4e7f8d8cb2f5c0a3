"""The curve on a technique page: stored points at once, what it says, and the job that adds to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from driving import report_edits
from streamlit.testing.v1 import AppTest

from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.jobs import curves, models
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Progress, Recipe
from pages.parts import components, curve, curve_chart, jobs

pytestmark = pytest.mark.usefixtures("framed")
ROOT = Path(__file__).resolve().parent.parent.parent
MODEL, SMALL = "lenet-300-100", "mlp-32"


@pytest.fixture(autouse=True)
def no_other_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing measures the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def visit(page: str, **query: str) -> AppTest:
    """A page of the real app, from the entry point."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for name, value in query.items():
        at.query_params[name] = value
    at.switch_page(f"pages/{page}.py")
    return again(at)


def again(at: AppTest) -> AppTest:
    at.run()
    assert [error.message for error in at.exception] == []
    return at


def figure(at: AppTest) -> dict[str, Any]:
    """The curve's figure, as Plotly is told it."""
    charts = [json.loads(c.proto.spec) for c in at.get("plotly_chart") if c.proto.id.endswith("-size-curve")]
    assert len(charts) == 1
    return charts[0]


def told(at: AppTest) -> dict[str, Any]:
    """What `curve.js` is told."""
    parts = [p for p in at.get("bidi_component") if p.proto.component_name.endswith("slimscope.curve")]
    assert len(parts) == 1
    return json.loads(parts[0].proto.json)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every run is one in which the browser asks for more points; the payloads that are queued for it."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(components, "asks_again", lambda key: True)
    monkeypatch.setattr(
        jobs,
        "ensure",
        lambda owner, kind, title, subject, key, **more: found.append({"kind": kind, "recipe": key, **more}),
    )
    return found


def test_stored_points_are_there_at_first_paint_and_no_job_is_started(monkeypatch):
    queued = asked(monkeypatch)
    at = visit("prune", m=MODEL, r="[]")
    of = curves.alone(MODEL, "mnist", "prune_weights")
    stored = {(row["bytes"], row["accuracy"]) for row in curves.stored(of)}
    traces = figure(at)["data"]
    drawn = {(x, y) for t in traces if t["mode"] == "markers" for x, y in zip(t["x"], t["y"], strict=True)}
    assert len(drawn) > 20
    assert drawn == stored
    assert not told(at)["left"]
    assert queued == []


def test_the_present_point_is_the_real_file_with_both_accuracies_by_name():
    at = visit("prune", m=MODEL, r='[["prune_weights",{"sparsity":0.9}]]')
    recipe = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.9}]]'))
    bundle, _ = run(zoo.load(MODEL), recipe, sets.load("mnist"))
    data = sets.load("mnist")
    validated, tested = (measure.accuracy(bundle, part).value for part in (data.validation, data.test))
    words = told(at)["now"]["words"]
    assert told(at)["now"]["x"] == packfile.size(bundle).value
    assert f"validation accuracy {100 * validated:.1f} %" in words
    assert "n = 5,000" in words
    assert f"test accuracy {100 * tested:.2f} %" in words
    assert "≈" not in words


def test_every_stop_has_a_point_marked_as_estimated_where_it_was_not_measured():
    message = told(visit("prune", m=MODEL, r="[]"))
    exact = {row["value"] for row in curves.stored(curves.alone(MODEL, "mnist", "prune_weights"))}
    assert len(message["places"]) == len(message["stops"])
    for stop, place in zip(message["stops"], message["places"], strict=True):
        assert ("≈" in place["label"]) == (stop not in exact), stop


def test_a_recipe_without_stored_points_asks_for_them_with_the_slider_where_it_is(monkeypatch):
    queued = asked(monkeypatch)
    recipe = '[["prune_weights",{"sparsity":0.813}],["quantize",{"bits":4}]]'
    at = visit("quantize", m=SMALL, r=recipe)
    whole = technique.complete(Recipe.from_key(recipe)).key
    assert queued == [{"kind": "curve", "recipe": whole, "step": 2, "setting": "bits"}]
    assert figure(at)["layout"]["annotations"][0]["text"] == curve.FIRST
    assert told(at)["now"] is None
    report_edits(at, "quantize", {"bits": 5})
    again(at)
    assert json.loads(queued[-1]["recipe"])[1][1]["bits"] == 5


def test_points_that_a_job_has_found_are_drawn(monkeypatch):
    monkeypatch.setattr(curves, "MOST_POINTS", 3)
    recipe = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.6,"allocation":"layer"}]]'))
    task = {"model": SMALL, "recipe": recipe.key, "data": "mnist", "step": 1, "setting": "sparsity"}
    curves.curve_job(task, Progress())
    at = visit("prune", m=SMALL, r=recipe.key)
    words = told(at)["now"]["words"]
    assert words.startswith("Sparsity 60 %: ")
    assert not told(at)["left"]
    assert told(at)["visited"] == [[told(at)["now"]["x"], told(at)["now"]["y"]]]


def test_weights_without_a_net_say_why_they_have_no_curve():
    name = models.put_model(zoo.load(SMALL))
    at = visit("prune", m=SMALL, r="[]")
    at.session_state["files"] = {
        name: {"title": "a file", "notes": [], "data": "", "arch": "weights", "declined": True}
    }
    at.session_state["work"] = dataclasses.replace(at.session_state["work"], model=name)
    again(at)
    assert "no curve of it" in "\n".join(caption.value for caption in at.caption)
    assert [p for p in at.get("plotly_chart") if p.proto.id.endswith("-size-curve")] == []


def test_the_window_holds_what_is_near_the_best_and_points_outside_are_at_its_edge():
    points = [
        {"bytes": size, "accuracy": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
        for size, accuracy in ((1000, 0.99), (500, 0.95), (10, 0.1))
    ]
    across, up = curve_chart.window(points)
    assert across[0] == pytest.approx(500 / 1.1)
    assert 0.9 < up[0] < 0.94
    assert up[1] >= 1.0


def test_the_chart_keeps_its_points_until_the_page_rests(monkeypatch):
    recipe = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.4,"allocation":"layer"}]]'))
    task = {"model": SMALL, "recipe": recipe.key, "data": "mnist", "step": 1, "setting": "sparsity"}

    def points(at: AppTest) -> int:
        return sum(len(trace["x"]) for trace in figure(at)["data"] if trace["mode"] == "markers")

    def measured(most: int) -> None:
        monkeypatch.setattr(curves, "MOST_POINTS", most)
        curves.curve_job(task, Progress())

    measured(3)
    at = visit("prune", m=SMALL, r=recipe.key)
    drawn = points(at)
    measured(6)
    again(at)
    assert points(at) == drawn
    assert told(at)["left"]  # the browser asks, where its slider rests
    monkeypatch.setattr(components, "asks_again", lambda key: True)
    again(at)
    assert points(at) > drawn
    assert not told(at)["left"]
