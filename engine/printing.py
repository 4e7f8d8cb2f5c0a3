"""Figures and progress as text, for commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from engine.types import Progress


def json_text(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False)


@contextmanager
def bar(title: str, disable: bool | None = None) -> Iterator[Progress]:
    """Progress that fills a bar on stderr; it is drawn for people alone, unless `disable` says otherwise."""
    form = "{desc} {percentage:3.0f} % |{bar}| {elapsed}{postfix}"
    with tqdm(total=1.0, desc=title, bar_format=form, disable=disable) as drawn:

        def show(fraction: float, row: Mapping[str, float] | None) -> None:
            drawn.n = fraction
            drawn.set_postfix(row or {})

        yield Progress(show)


def noted(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


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
