"""What is asked of a large model now and then, and takes too long while a page waits: latency and ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from engine.figures import latency, theory
from engine.figures.latency import Row
from engine.jobs import as_json, testset
from engine.recipe import migrate
from engine.types import Figure, Progress


def time_forms(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The original and every form of a model, timed side by side.

    Payload: model, recipe (key), data (spec), batch. Answers with `rows`, one for each form, as `rows_of`
    reads them. Raises SlimscopeError before trained steps are trained.
    """
    recipe = migrate.read(payload["recipe"])
    bundle = testset.compressed(payload["model"], recipe, payload["data"], progress.part(0.0, 0.2))
    progress(0.2)
    return {"rows": [_data(row) for row in latency.latency(bundle.origin, bundle, payload["batch"])]}


def ledger(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Every way to count the size of a model, as `figures`. Payload: model, recipe (key), data (spec)."""
    recipe = migrate.read(payload["recipe"])
    bundle = testset.compressed(payload["model"], recipe, payload["data"], progress.part(0.0, 0.5))
    progress(0.5)
    return {"figures": [figure.to_dict() for figure in theory.ledger(bundle)]}


def _data(row: Row) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: value.to_dict() if isinstance(value, Figure) else value for name, value in values.items()}


def rows_of(result: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows that `time_forms` answered with."""
    return tuple(map(_row, result["rows"]))


def _row(data: Mapping[str, Any]) -> Row:
    values: dict[str, Any] = {
        name: as_json.figure_of(value) if isinstance(value, Mapping) else value
        for name, value in data.items()
    }
    return Row(**values)
