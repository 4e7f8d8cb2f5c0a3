"""What a technique's page opens with: its defaults, or less where they would ruin the model in view."""

from __future__ import annotations

from typing import Any

from engine.jobs.curves import Row, stored_curves
from engine.recipe import curve, technique
from engine.types import Step

BEARABLE = 0.05  # of validation accuracy that a page may open without


def opening(model_id: str, name: str) -> Step:
    """The technique's defaults, its main setting as far as the model bears it.

    Where the stored curve of the defaults says that they lose more than BEARABLE, the main setting is that
    of the smallest file that loses no more. What trains opens with its defaults, whose result is stored.

    >>> import engine.techniques
    >>> [opening(model, "prune_weights").settings["sparsity"] for model in ("lenet-300-100", "resnet-8")]
    [0.9, 0.56]
    """
    spec = technique.get(name)
    step, setting = technique.step(name), curve.main_setting(name, spec.defaults)
    if setting is None or spec.trains:
        return step
    for one in stored_curves(model_id).values():
        is_of_defaults = one["settings"].items() <= step.settings.items()  # a newer setting changes nothing
        if (one["technique"], one["setting"]) == (name, setting) and is_of_defaults:
            return Step(name, {**step.settings, setting: _bearable(one["rows"], step.settings[setting])})
    return step


def _bearable(rows: list[Row], default: Any) -> Any:
    scores = {row["value"]: row["accuracy"] for row in rows if row["accuracy"] is not None}
    least = scores.get(None, 0.0) - BEARABLE
    if scores.get(default, least) >= least:
        return default
    borne = [row for row in rows if row["value"] is not None and (row["accuracy"] or 0.0) >= least]
    return min(borne, key=lambda row: row["bytes"], default={"value": default})["value"]
