"""Mixed precision's page with a budget of time, and with its search: asked for, measured, and shown."""

from __future__ import annotations

from typing import Any

import pytest
from visiting import Visit

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures.latency import stopwatch
from engine.jobs import evolution, tasks, timings
from engine.jobs.job import Job
from engine.net import zoo
from engine.types import Progress
from pages.parts import evolution as search
from pages.parts import jobs

pytestmark = pytest.mark.usefixtures("framed")
MODEL = "lenet-5-small"
NAME = "mixed_precision"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "WARM_UP", 1)
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def test_a_budget_of_time_asks_for_the_times_first_and_then_deals_them_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "submit", lambda kind, title, **payload: asked.update(payload, kind=kind))
    visit = Visit("mixed", m=MODEL, r="[]").edit(NAME, limit="time")
    assert "Each layer alone in ONNX Runtime" in visit.words
    visit.click("time-layers")
    assert asked.pop("kind") == "layer_times"
    tasks.perform("layer_times", {"model": MODEL, "data": "mnist", **asked}, Progress())
    found = timings.kept(zoo.load(MODEL))
    assert found is not None
    visit.run()
    assert found.processor in visit.words
    assert "Below 8 bits nothing is faster" in visit.words
    visit.click("use-times")
    assert visit.view.steps[-1].settings["times"] == found.table
    visit.edit(NAME, checked=100)
    assert "run on 8-bit codes" in visit.html
    visit.open_fold("layer-times")
    for name in ("predicted time", "latency", "latency of the original", "speed-up"):
        assert f'data-figure="{name}"' in visit.html


def test_designs_of_the_search_are_points_beside_the_exact_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "submit", lambda kind, title, **payload: asked.update(payload, kind=kind))
    link = '[["mixed_precision",{"sensitivity":"error","checked":100}]]'
    visit = Visit("mixed", m="mlp-32", r=link).open_fold("evolution")
    visit.click("evolve")
    assert asked.pop("kind") == "evolve"
    assert asked["trials"] == 40
    payload = {"model": "mlp-32", "data": "mnist", **asked, "trials": 5}
    rows = tasks.perform("evolve", payload, Progress())["rows"]
    job = Job("1", "me", "evolve", "", asked, "done", series=tuple(rows))
    monkeypatch.setattr(jobs, "latest", lambda kind, **wanted: job if kind == "evolve" else None)
    monkeypatch.setattr(jobs, "watch", lambda job_id, draw, place="page": draw(job))
    shown = Visit("mixed", m="mlp-32", r=link).open_fold("evolution")
    assert search.said(rows) in shown.words
    traces = search.chart(rows)["data"]
    for name, kind in (("exact solver, on added sensitivity", "exact"), ("tried by NSGA-II", "tried")):
        (points,) = (trace for trace in traces if trace.get("name") == name)
        assert points["x"] == [row["bytes"] for row in rows if row["kind"] == kind]


def test_without_optuna_the_page_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution.importlib.util, "find_spec", lambda name: None)
    link = '[["mixed_precision",{"sensitivity":"error","checked":100}]]'
    assert (
        "pip install 'slimscope[search]'" in Visit("mixed", m="mlp-32", r=link).open_fold("evolution").words
    )
