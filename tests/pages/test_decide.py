"""Decide without a browser: all techniques at first paint, a budget, pins, history and report."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from visiting import Visit

from engine import cli
from engine.data import sets
from engine.file import packfile
from engine.jobs import curves, dates, fronts
from engine.jobs.job import Job
from engine.net import zoo
from engine.recipe import front, technique
from engine.recipe.run import run
from engine.types import Recipe
from pages.parts import jobs, menu, ship
from pages.parts.decide import budget, pins, plot, points, report, svg, vary

pytestmark = pytest.mark.usefixtures("framed")
MODEL, SMALL = "lenet-300-100", "mlp-32"


@pytest.fixture(autouse=True)
def no_other_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing measures the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def figure(at: AppTest) -> dict[str, Any]:
    """The plot, as Plotly is told it."""
    charts = [json.loads(c.proto.spec) for c in at.get("plotly_chart") if c.proto.id.endswith("-decide-plot")]
    assert len(charts) == 1
    return charts[0]


def rows(model: str = MODEL) -> list[points.Row]:
    return fronts.points(fronts.courses(model, zoo.entry(model).data))


def marked(at: AppTest) -> dict[str, tuple[float, float]]:
    """Words -> where they stand on the plot."""
    return {t["text"][0]: (t["x"][0], t["y"][0]) for t in figure(at)["data"] if t["mode"] == "markers+text"}


def test_the_stored_points_of_all_techniques_are_there_at_first_paint():
    visit = Visit("tradeoffs", m=MODEL, r="[]")
    assert visit.at.header[0].value == "Decide"
    traces = [t for t in figure(visit.at)["data"] if t["mode"] == "markers"]
    drawn = {(x, y) for t in traces if "text" in t for x, y in zip(t["x"], t["y"], strict=True)}
    names = {each.step.technique for each in fronts.courses(MODEL, "mnist") if curves.stored(each)}
    stored = {
        (row["bytes"], row["accuracy"])
        for name in names
        for row in curves.stored(curves.alone(MODEL, "mnist", name))
    }
    assert len(names) >= 5
    assert drawn == stored
    listed = {t["name"] for t in traces if t.get("showlegend", True)}
    assert listed == {"original", *(menu.GROUPS[technique.get(name).family] for name in names)}
    assert {t["name"] for t in traces if "text" in t} == {
        "original",
        *(technique.get(name).title for name in names),
    }
    assert figure(visit.at)["layout"]["xaxis"]["type"] == "log"


def test_dominated_points_are_pale_and_no_others():
    at = Visit("tradeoffs", m=MODEL, r="[]").at
    traces = [t for t in figure(at)["data"] if t["mode"] == "markers" and "text" in t]
    known = [(x, y, t["opacity"]) for t in traces for x, y in zip(t["x"], t["y"], strict=True)]
    for x, y, opacity in known:
        is_beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b, _ in known)
        assert (opacity < 1) == is_beaten


def test_the_original_and_the_recipe_in_hand_are_marked_where_they_are():
    at = Visit("tradeoffs", m=MODEL, r='[["prune_weights",{"sparsity":0.8}],["quantize",{"bits":6}]]').at
    recipe = technique.complete(
        Recipe.from_key('[["prune_weights",{"sparsity":0.8}],["quantize",{"bits":6}]]')
    )
    size = packfile.size(run(zoo.load(MODEL), recipe, sets.load("mnist"))[0]).value
    assert next(place for words, place in marked(at).items() if words.startswith("you are here"))[0] == size
    original = next(row for row in rows() if row["value"] is None)
    assert marked(at)["original"] == (original["bytes"], original["accuracy"])


# ---------------------------------------------------------------- a budget


def test_a_loss_is_asked_for_first_and_the_smallest_file_is_recommended():
    visit = Visit("tradeoffs", m=MODEL, r="[]")
    allowed = [row for row in rows() if row["change"] >= -0.01]
    best = min(allowed, key=lambda row: row["bytes"])
    assert f"**{points.label(best['recipe'])}**: {points.size(best)}" in visit.words
    others = [row for row in allowed if row["technique"] != best["technique"]]
    second = min(others, key=lambda row: row["bytes"])
    assert f"The runner-up, {points.label(second['recipe'])}, is" in visit.words
    assert any(words.startswith("recommended") for words in marked(visit.at))


def test_the_recommended_recipe_becomes_the_recipe():
    visit = Visit("tradeoffs", m=MODEL, r="[]").click("take-recommended")
    advice = front.recommended(rows(), front.Budget("lost", 0.01))
    assert visit.recipe.key == advice.best["recipe"]
    assert visit.at.button(key="take-recommended").disabled
    assert visit.click("undo").recipe == Recipe()


def test_a_budget_of_bytes_is_kept_and_one_that_nothing_keeps_is_said():
    visit = Visit("tradeoffs", m=MODEL, r="[]")
    visit.at.segmented_control(key="budget-kind").set_value("bytes")
    visit.run().set("number_input", f"budget-bytes-{MODEL}|mnist", 60.0)
    advice = front.recommended(rows(), front.Budget("bytes", 60_000))
    assert f"**{points.label(advice.best['recipe'])}**: {points.size(advice.best)}" in visit.words
    visit.set("number_input", f"budget-bytes-{MODEL}|mnist", 0.1)
    assert "Nothing that is known makes a file of at most 0.1 KB: the smallest takes" in visit.words


def test_a_difference_on_few_samples_is_never_a_tie():
    row = {"change": -0.002, "change_low": -0.01, "change_high": 0.006, "n": 500}
    assert points.lost(row) == "0.2 points lost (not settled: n = 500)"
    assert points.lost({**row, "n": 5000}) == "0.2 points lost (a tie)"
    assert points.lost({**row, "n": 5000, "change_high": -0.001}) == "0.2 points lost"


def test_two_recipes_are_compared_in_words():
    row = {"bytes": 112, "change": -0.002, "change_low": -0.003, "change_high": -0.001, "n": 5000}
    assert budget.beside(row, {"bytes": 100}) == "is 12 % larger, with 0.2 points lost"
    assert budget.beside(row, {"bytes": 20}) == "is 5.60 times as large, with 0.2 points lost"
    assert budget.beside(row, {"bytes": 112}) == "is as large, with 0.2 points lost"


# ---------------------------------------------------------------- side by side


def compared(visit: Visit) -> str:
    return next(part for part in visit.html.split("\n") if 'data-table="compare"' in part)


def test_until_something_is_pinned_what_the_page_speaks_of_is_compared():
    visit = Visit("tradeoffs", m=MODEL, r="[]")
    advice = front.recommended(rows(), front.Budget("lost", 0.01))
    assert compared(visit).count("<tr") == 1 + 3
    assert points.label(advice.second["recipe"]) in compared(visit)


def test_pinned_points_are_compared_with_counts_of_their_own_model():
    visit = Visit("tradeoffs", m=SMALL, r="[]")
    key = next(
        row["recipe"] for row in rows(SMALL) if row["technique"] == "prune_weights" and row["value"] > 0.5
    )
    visit.set("multiselect", f"pins-{SMALL}|{zoo.entry(SMALL).data}", [key])
    table = compared(visit)
    assert table.count("<tr") == 2
    bundle = run(zoo.load(SMALL), Recipe.from_key(key), sets.load(zoo.entry(SMALL).data))[0]
    zeros = sum(int((p.decode() == 0).sum()) for n, p in bundle.params.items() if n.endswith("weight"))
    share = zeros / sum(p.decode().numel() for n, p in bundle.params.items() if n.endswith("weight"))
    assert f"{100 * share:.2f} %" in table
    assert "pin 1" in {t["text"][0] for t in figure(visit.at)["data"] if t["mode"] == "markers+text"}


def test_latency_and_classes_come_on_request():
    visit = Visit("tradeoffs", m=SMALL, r="[]")
    assert "latency" not in compared(visit)
    visit.at.toggle(key="compare-latency").set_value(True)
    visit.at.toggle(key="compare-classes").set_value(True)
    visit.run()
    assert re.search(r"\d ms", compared(visit))
    classes = next(part for part in visit.html.split("\n") if 'data-table="classes"' in part)
    assert classes.count("<tr") == 1 + 10
    assert "test samples" in visit.words


def test_a_sixth_pin_takes_the_place_of_the_first_and_a_second_click_takes_a_pin_away(monkeypatch):
    state: dict[str, Any] = {}
    monkeypatch.setattr(pins.st, "session_state", state)
    known = rows()
    view = points.View("m|d", known, "[]", "2026-01-01")
    for row in known[:6]:
        pins.toggle(view, row["recipe"])
    assert pins.pinned(view) == [row["recipe"] for row in known[1:6]]
    pins.toggle(view, known[3]["recipe"])
    assert known[3]["recipe"] not in pins.pinned(view)


# ---------------------------------------------------------------- the folds


def test_the_fold_of_one_step_offers_values_and_measures_on_the_same_samples(monkeypatch):
    queued: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs, "submit", lambda kind, title, **more: queued.append({"kind": kind, **more}))
    visit = Visit("tradeoffs", m=SMALL, r='[["prune_weights",{"sparsity":0.8}]]')
    visit.at.session_state["fold-vary"] = True
    visit.run().click("run-sweep")
    assert queued[0]["kind"] == "sweep"
    assert len(queued[0]["vary"]["sparsity"]) == vary.HOW_MANY
    assert queued[0]["samples"] == rows(SMALL)[0]["n"]


def test_the_history_holds_what_was_tried_and_jobs_that_failed(monkeypatch):
    payload = {"model": SMALL, "recipe": '[["finetune",{"epochs":2}]]'}
    failed = Job("1", "me", "apply", "Fine-tuning", payload, "failed", error="the loss is not a number")
    monkeypatch.setattr(jobs, "listed", lambda: [failed])
    visit = Visit("prune", m=SMALL, r="[]").edit("prune_weights", sparsity=0.77).open("tradeoffs")
    visit.at.session_state["fold-tried"] = True
    visit.run()
    tried, work = [frame.value for frame in visit.at.dataframe][-2:]
    assert "Prune weights 77 %" in set(tried["recipe"])
    assert "The original" in set(tried["recipe"])
    row = work.iloc[0]
    assert (row["what"], row["how it ended"], row["why"]) == ("Fine-tuning", "failed", failed.error)


def test_a_model_without_points_is_offered_to_be_measured(monkeypatch):
    monkeypatch.setattr(curves, "stored", lambda of: [])
    queued: list[tuple[str, str]] = []
    monkeypatch.setattr(jobs, "submit", lambda kind, title: queued.append((kind, title)))
    monkeypatch.setattr(fronts.store, "some", lambda wanted: {})
    visit = Visit("tradeoffs", m=SMALL, r="[]")
    assert "can be measured in the background" in visit.words
    visit.click("measure-fronts")
    assert queued == [("front", plot.ALL)]


# ---------------------------------------------------------------- the report


def test_the_report_stands_by_itself_and_holds_the_figures():
    spec = zoo.entry(MODEL).data
    courses = fronts.courses(MODEL, spec)
    view = points.View(f"{MODEL}|{spec}", rows(), "[]", fronts.measured_on(MODEL, courses))
    asked = front.Budget("lost", 0.01)
    advice = front.recommended(view.rows, asked)
    command = "slimscope compress lenet-300-100 --recipe '[]' --out a.slim"
    text = report.page(view, asked, advice, [], "LeNet-300-100", command)
    assert len(text.encode()) < 500_000
    assert not re.search(r"https?:|<script|src=|@import|url\(", text)
    assert f"<title>Compressing LeNet-300-100, {dates.stored(MODEL)}</title>" in text
    for row in (advice.best, advice.second, view.original):
        assert points.size(row) in text
        assert f"{100 * row['accuracy']:.2f} % ({100 * row['low']:.2f} to {100 * row['high']:.2f})" in text
    assert "a loss of at most 1 point of accuracy" in text
    assert "slimscope compress lenet-300-100" in text
    assert "n = 5,000 validation samples" in text
    assert text == report.page(view, asked, advice, [], "LeNet-300-100", command)


def test_the_report_is_offered_where_something_is_recommended():
    visit = Visit("tradeoffs", m=MODEL, r="[]")
    assert "Report (.html)" in [b.proto.label for b in visit.at.get("download_button")]


def test_the_picture_has_a_dot_for_each_point_that_it_shows():
    view = points.View("m|d", rows(), "[]", "")
    axes = svg.Axes(*points.curve_chart.window(view.rows))
    shown = [row for row in view.rows if axes.holds(row)]
    text = svg.picture(view, {})
    assert text.count("<circle") == len(shown) > 20
    assert axes.x(10 * view.rows[0]["bytes"]) - axes.x(view.rows[0]["bytes"]) == pytest.approx(
        axes.x(100.0) - axes.x(10.0)
    )


def test_the_command_makes_the_recommended_file(tmp_path, monkeypatch, decoded_here):
    advice = front.recommended(rows(SMALL), front.Budget("lost", 0.01))
    monkeypatch.setattr(ship.visitor, "scaling", lambda: zoo.entry(SMALL).data)
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.from_key(advice.best["recipe"])
    cli.main(shlex.split(ship.command(f"{SMALL}|{zoo.entry(SMALL).data}", recipe))[1:])
    bundle = run(zoo.load(SMALL), recipe, sets.load(zoo.entry(SMALL).data))[0]
    assert Path(f"{SMALL}.slim").stat().st_size == packfile.size(bundle).value
