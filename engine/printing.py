"""Figures as text and JSON, for commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, allow_nan=False))


def figure_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Figures as aligned text: name, value, unit, interval, basis, how."""
    rows = [
        (f["name"], number(f["value"]), f["unit"], interval(f["spread"]), f["basis"], f["how"])
        for f in figures
    ]
    return aligned(rows)


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells below each other; the last column takes what room it needs."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join(
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


def number(value: float) -> str:
    """A whole number with commas, any other with four digits."""
    return f"{int(value):,}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"


def interval(spread: Sequence[float] | None) -> str:
    """Both ends, or nothing."""
    return "" if spread is None else f"[{number(spread[0])}, {number(spread[1])}]"
