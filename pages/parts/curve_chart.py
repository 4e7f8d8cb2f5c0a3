"""Accuracy against bytes as a figure: where it is drawn, and what is said of its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.recipe import curve
from pages.parts import charts, figures
from pages.parts.charts import Chart

HEIGHT = 230
WIDE = 4.0  # times between smallest and largest file from which the axis is logarithmic
LOOKS = {  # rank -> name in the legend, colour, symbol, opacity
    "front": ("less accurate", charts.KEPT, "circle", 1.0),
    "tie": ("as accurate as the original", charts.ORIGINAL, "circle", 1.0),
    "dominated": ("a smaller file is as good", charts.KEPT, "circle-open", 0.45),
    "original": ("original", charts.ORIGINAL, "diamond", 1.0),
}
EMPTY = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False, "font": {"size": 14}}

Point = Mapping[str, Any]  # a row of a sweep with the `value` of the setting, None for the original
Worded = Callable[[Any], str]  # what a value of the setting is called


def percent(share: float) -> str:
    """An accuracy as the chart says it.

    >>> percent(0.98214)
    '98.2 %'
    """
    return f"{100 * share:.1f} %"


def interval(row: Point) -> str:
    unsettled = ": not settled" if row["n"] < figures.SETTLES else ""
    return f"{100 * row['low']:.1f} to {100 * row['high']:.1f}, n = {row['n']:,}{unsettled}"


def window(points: Sequence[Point]) -> tuple[tuple[float, float], tuple[float, float]]:
    """(bytes from, to), (accuracy from, to) that the chart shows: what is not far below the best, with some room.

    >>> rows = [{"bytes": 100, "accuracy": 0.9, "low": 0.88, "high": 0.92}]
    >>> [[round(end, 3) for end in ends] for ends in window(rows)]
    [[90.909, 110.0], [0.876, 0.924]]
    """
    if not points:
        return (1.0, 10.0), (0.0, 1.0)
    floor = max(row["accuracy"] for row in points) - curve.ZOOM
    seen = [row for row in points if row["accuracy"] >= floor]
    low, high = max(floor, min(row["low"] for row in seen)), max(row["high"] for row in seen)
    sizes, room = [row["bytes"] for row in seen], (high - low) / 10
    return (min(sizes) / 1.1, max(sizes) * 1.1), (max(0.0, low - room), min(1.0 + room, high + room))


def chart(points: Sequence[Point], worded: Worded, empty: str) -> Chart:
    """The curve: its line, and points by what they are; where there is none, `empty` says why."""
    across, up = window(points)
    is_wide = across[1] > WIDE * across[0]
    ends = [math.log10(end) for end in across] if is_wide else list(across)
    ranked = list(zip(points, curve.ranks(points), strict=True))
    traces = [_trace(rank, [point for point, its in ranked if its == rank], worded) for rank in LOOKS]
    figure = charts.chart(
        [_line(points), *(trace for trace in traces if trace["x"])],
        "file size in bytes (measured)",
        "validation accuracy",
        HEIGHT,
        xaxis={"range": ends, "tickformat": "~s", **({"type": "log", "dtick": "D2"} if is_wide else {})},
        yaxis={"range": list(up), "tickformat": ".0%" if up[1] - up[0] > 0.05 else ".1%", "nticks": 6},
        dragmode=False,
    )
    if not points:
        figure["layout"]["annotations"] = [{**EMPTY, "text": empty}]
        for axis in ("xaxis", "yaxis"):
            figure["layout"][axis]["showticklabels"] = False
    return figure


def _line(points: Sequence[Point]) -> Chart:
    along = [point for point in points if point["value"] is not None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [point["bytes"] for point in along],
        "y": [point["accuracy"] for point in along],
        "line": {"color": charts.KEPT, "width": 1},
        "opacity": 0.6,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _trace(rank: str, rows: Sequence[Point], worded: Worded) -> Chart:
    name, colour, symbol, opacity = LOOKS[rank]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row["bytes"] for row in rows],
        "y": [row["accuracy"] for row in rows],
        "customdata": [row["value"] for row in rows],
        "text": [_hover(row, worded) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "opacity": opacity,
        "marker": {"size": 9 if rank == "original" else 7, "color": colour, "symbol": symbol},
        "error_y": charts.intervals(rows, "accuracy", thickness=1, width=0, color=colour),
    }


def _hover(row: Point, worded: Worded) -> str:
    what = "The original" if row["value"] is None else worded(row["value"])
    size = figures.text(row["bytes"], "B")
    return f"{what}<br>{size}, validation accuracy {percent(row['accuracy'])}<br>({interval(row)})"
