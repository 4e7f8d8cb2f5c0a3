"""Which of a step's roundings does the damage: a sweep's rows as a table, and the fold that asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from visiting import Visit

import engine.techniques  # noqa: F401  (fills the registry)
from engine.jobs import tasks
from engine.jobs.job import Job
from engine.types import Progress
from pages.parts import damage_split, jobs

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured on the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def test_the_split_is_asked_for_measured_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "submit", lambda kind, title, **payload: asked.update(payload, kind=kind))
    link = '[["prune_weights",{"sparsity":0.5}],["quantize",{"bits":2,"activation_bits":2}]]'
    visit = Visit("quantize", m="mlp-32", r=link).open_fold("damage-split")
    assert "weights in 2 bits, activations static in 2 bits" in visit.words
    visit.at.button(key="split-quantize").click()
    visit.run()
    assert asked.pop("kind") == "sweep"
    assert asked["vary"] == {"activations": ["none", "static"], "round_weights": [False, True]}
    payload = {"model": "mlp-32", "data": "mnist", **asked, "samples": 500}
    rows = tasks.perform("sweep", payload, Progress())["rows"]
    table = damage_split.rows_of(rows).set_index("rounded")
    assert sorted(table.index) == ["activations only", "both", "original", "weights only"]
    assert table.loc["original", "change"] == 0
    assert table.loc["both", "accuracy"] < table.loc["activations only", "accuracy"]
    job = Job("1", "me", "sweep", "", asked, "done", series=tuple(rows))
    monkeypatch.setattr(jobs, "latest", lambda kind, **wanted: job if kind == "sweep" else None)
    monkeypatch.setattr(jobs, "watch", lambda job_id, draw, place="page": draw(job))
    shown = Visit("quantize", m="mlp-32", r=link).open_fold("damage-split").html
    for what in table.index:
        assert f'<td class="text">{what}</td>' in shown


def test_a_recipe_that_was_refused_has_no_row() -> None:
    row = {"activations": "static", "round_weights": True, "accuracy": None, "refused": "no data"}
    assert damage_split.rows_of([row]).empty
