"""Figures, tables and reports as JSON-ready data, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from engine.recipe import migrate
from engine.types import Basis, Figure, Recipe, Report, Step


def table_data(table: pd.DataFrame) -> dict[str, Any]:
    """A table as JSON-ready data: column names, their types, and rows; the index is not kept."""
    cells = json.loads(json.dumps([list(row) for row in table.itertuples(index=False)], default=_plain))
    types = [str(kind) for kind in table.dtypes]
    return {"columns": [str(name) for name in table.columns], "types": types, "rows": cells}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)  # numpy scalars and arrays


def table_of(data: Mapping[str, Any]) -> pd.DataFrame:
    """The table that `table_data` was made from."""
    table = pd.DataFrame(data["rows"], columns=data["columns"])
    return table.astype(dict(zip(data["columns"], data["types"], strict=True)))


def figure_of(data: Mapping[str, Any]) -> Figure:
    """The figure that `Figure.to_dict` was made from.

    >>> figure = Figure("size", 12, "B", Basis.MEASURED, "written", (12, 12))
    >>> figure_of(figure.to_dict()) == figure
    True
    """
    spread = None if data["spread"] is None else (data["spread"][0], data["spread"][1])
    basis = Basis(data["basis"])
    return Figure(data["name"], data["value"], data["unit"], basis, data["how"], spread)


def report_data(report: Report) -> dict[str, Any]:
    """A report as JSON-ready data."""
    return {
        "figures": [figure.to_dict() for figure in report.figures],
        "tables": {name: table_data(table) for name, table in report.tables.items()},
        "notes": list(report.notes),
        "step": None if report.step is None else report.step.data,
    }


def report_of(data: Mapping[str, Any]) -> Report:
    """The report that `report_data` was made from."""
    return Report(
        tuple(figure_of(figure) for figure in data["figures"]),
        {name: table_of(table) for name, table in data["tables"].items()},
        tuple(data["notes"]),
        _step_of(data["step"]),
    )


def _step_of(data: Any) -> Step | None:
    return None if data is None else migrate.current(Recipe((Step(*data),))).steps[0]
