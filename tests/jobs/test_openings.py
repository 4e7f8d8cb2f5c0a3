"""What a page opens with keeps the model in use."""

from __future__ import annotations

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.jobs import openings
from engine.jobs.curves import stored_curves
from engine.jobs.openings import BEARABLE, _bearable, opening
from engine.net import zoo
from engine.recipe import technique


@pytest.mark.parametrize("model", zoo.trained())
def test_no_page_opens_with_a_ruined_model_where_less_of_its_technique_is_bearable(model: str) -> None:
    for one in stored_curves(model).values():
        name, setting = one["technique"], one["setting"]
        rows = {row["value"]: row for row in one["rows"] if row["accuracy"] is not None}
        default, opened = technique.step(name).settings, opening(model, name).settings
        if not one["settings"].items() <= default.items() or technique.get(name).trains:
            continue
        assert {**opened, setting: None} == {**default, setting: None}
        whole, now = rows[None], rows[opened[setting]]
        assert now["accuracy"] >= whole["accuracy"] - BEARABLE
        is_ruined = rows[default[setting]]["accuracy"] < whole["accuracy"] - BEARABLE
        assert is_ruined == (opened[setting] != default[setting])


def test_the_smallest_bearable_file_is_taken() -> None:
    rows = [
        {"value": None, "accuracy": 0.9, "bytes": 100},
        {"value": 0.2, "accuracy": 0.9, "bytes": 80},
        {"value": 0.4, "accuracy": 0.85, "bytes": 60},
        {"value": 0.6, "accuracy": 0.84, "bytes": 50},
        {"value": 0.7, "accuracy": None, "bytes": None},
    ]
    assert _bearable(rows, 0.6) == 0.4
    assert _bearable(rows, 0.4) == 0.4
    assert _bearable(rows, 0.2) == 0.2
    assert _bearable(rows, 0.3) == 0.3  # nothing is known of it
    assert _bearable([{**row, "accuracy": 0.1} if row["value"] else row for row in rows], 0.6) == 0.6


def test_without_a_stored_curve_a_page_opens_with_the_defaults() -> None:
    assert opening("user-0", "prune_weights") == technique.step("prune_weights")
    assert openings.opening("resnet-8", "finetune") == technique.step("finetune")
