"""NSGA-II beside the exact solver: the front is of its own points, a seed gives it again, a stop keeps it."""

from __future__ import annotations

import importlib.util
from typing import Any

import pandas as pd
import pytest

from engine.data import sets
from engine.figures import mixed_bits
from engine.jobs import evolution, scans, store, tasks
from engine.jobs.evolution import EXACT, TRIED
from engine.net import zoo
from engine.recipe import sweep
from engine.recipe.run import run
from engine.types import Cancelled, Progress, Recipe, SlimscopeError
from pages.parts import evolution as page

PAYLOAD = {"model": "mlp-32", "recipe": "[]", "data": "mnist", "trials": 25, "seed": 3}
SETTINGS = {"sensitivity": "error", "allowed": "any", "granularity": "channel", "checked": 100}


def searched(**changed: Any) -> list[dict[str, Any]]:
    return tasks.perform("evolve", {**PAYLOAD, "settings": SETTINGS, **changed}, Progress())["rows"]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return searched()


def test_no_design_of_the_front_is_beaten_by_another_one(rows: list[dict[str, Any]]) -> None:
    tried = [row for row in rows if row["kind"] == TRIED]
    assert len(tried) == 25
    is_best = sweep.front([row["bytes"] for row in tried], [row["accuracy"] for row in tried])
    front = [row for row, best in zip(tried, is_best, strict=True) if best]
    assert front
    assert not any(page.beats(other, row) for row in front for other in tried)
    beaten = [row for row in tried if row not in front]
    assert all(any(page.beats(other, row) for other in front) for row in beaten)


def test_a_seed_gives_the_same_designs_and_another_one_others(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured again, not read: nothing is kept."""
    monkeypatch.setattr(store, "get", lambda key: None)
    assert searched() == rows
    other = searched(seed=4, trials=5)
    assert [row["bits"] for row in other if row["kind"] == TRIED] != [
        row["bits"] for row in rows if row["kind"] == TRIED
    ][:5]


def test_a_point_is_its_recipe_measured_on_validation(rows: list[dict[str, Any]]) -> None:
    row = rows[-1]
    bundle = run(zoo.load("mlp-32"), Recipe.from_key(row["recipe"]), None)[0]
    widths = {name: bundle.params[f"{name}.weight"].bits for name in row["bits"]}
    assert widths == row["bits"]
    assert row["n"] == scans.SAMPLES
    sweep_of = {"recipe": row["recipe"], "step": 1, "vary": {"bits": [8]}, "samples": scans.SAMPLES}
    swept = tasks.perform("sweep", {"model": "mlp-32", "data": "mnist", **sweep_of}, Progress())["rows"][1]
    assert all(row[name] == swept[name] for name in ("bytes", "accuracy", "low", "high", "change"))


def test_the_designs_of_the_exact_solver_are_its_deals(rows: list[dict[str, Any]]) -> None:
    exact = [row for row in rows if row["kind"] == EXACT]
    assert exact[0]["bits"] == {"fc1": 2, "fc2": 2}
    assert exact[-1]["bits"] == {"fc1": 8, "fc2": 8}
    table = [("a", 2, 10, 4.0), ("a", 4, 20, 1.0), ("b", 2, 10, 3.0), ("b", 4, 20, 2.9)]
    told = pd.DataFrame(table, columns=["layer", "bits", "bytes", "sensitivity"])
    found = evolution.exact_designs(told)
    assert found == [{"a": 2, "b": 2}, {"a": 4, "b": 2}, {"a": 4, "b": 4}]
    assert found[1] == mixed_bits.deal(told, 30).bits


def test_evolution_finds_what_trying_all_finds_where_designs_are_few() -> None:
    """Two layers of three widths, and values by hand: the front of all nine is found."""
    table = [(layer, bits, 0, 0.0) for layer in "ab" for bits in (2, 4, 8)]
    told = pd.DataFrame(table, columns=["layer", "bits", "bytes", "sensitivity"])

    def value(bits: Any) -> tuple[float, float]:
        return 3 * bits["a"] + bits["b"], 1 - 4.0 ** -bits["a"] - 2.0 ** -bits["b"]

    seen = set()
    for _, bits, tell in evolution.proposals(told, 60, 0, population=6):
        tell(*value(bits))
        seen.add(value(bits))
    every = [value({"a": a, "b": b}) for a in (2, 4, 8) for b in (2, 4, 8)]
    is_best = sweep.front(*zip(*every, strict=True))
    assert {own for own, best in zip(every, is_best, strict=True) if best} <= seen


def test_a_search_can_be_stopped_and_keeps_what_it_measured() -> None:
    payload = {**PAYLOAD, "settings": SETTINGS, "seed": 11}
    heard: list[dict[str, Any]] = []

    def stop() -> bool:
        return len(heard) >= 12

    def hear(share: float, row: Any) -> None:
        heard.extend([row] if row else [])

    with pytest.raises(Cancelled):
        tasks.perform("evolve", payload, Progress(hear, stop))
    assert len(heard) == 12
    assert store.get(scan_key(heard[-1])) is not None


def scan_key(row: dict[str, Any]) -> str:
    return scans.point_key(zoo.load("mlp-32"), Recipe.from_key(row["recipe"]), sets.load("mnist"), row["n"])


@pytest.mark.parametrize("trials", [0, 10_000, "many"])
def test_a_wrong_number_of_designs_is_refused(trials: Any) -> None:
    with pytest.raises(SlimscopeError, match="trials is"):
        searched(trials=trials)


def test_without_optuna_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evolution.why_not() == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'slimscope[search]'" in evolution.why_not()
    with pytest.raises(SlimscopeError, match="not installed"):
        searched()
