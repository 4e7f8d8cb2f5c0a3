"""Accuracy against bytes as a figure: where it is drawn, and what is said of its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.figures import scores
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
    """An accuracy as the chart says it; a score below 0 is a perplexity (`engine.figures.scores`).

    >>> percent(0.98214)
    '98.2 %'
    """
    return scores.text(share)


def interval(row: Point) -> str:
    """The interval of a row and its samples; few samples with classes settle nothing."""
    is_few = row["n"] < figures.SETTLES and not scores.is_loss(row["accuracy"])
    samples = "windows" if scores.is_loss(row["accuracy"]) else "n"
    return f"{scores.interval(row['low'], row['high'])}, {samples} = {row['n']:,}{': not settled' if is_few else ''}"


def what(points: Sequence[Point]) -> str:
    """What the points' scores are: accuracy, or perplexity; just scores where there is none yet."""
    return scores.name(points[0]["accuracy"]) if points else "score"


def upright(up: tuple[float, float]) -> Chart:
    """The upright axis of scores: in per cent, or with the perplexities where they lie, the lowest on top."""
    if not scores.is_loss(up[0]):
        return {"range": list(up), "tickformat": ".0%" if up[1] - up[0] > 0.05 else ".1%", "nticks": 6}
    ticks = levels(*up)
    return {
        "range": list(up),
        "tickvals": [-math.log(each) for each in ticks],
        "ticktext": [f"{each:,g}" for each in ticks],
    }


def levels(low: float, high: float) -> list[float]:
    """Four to ten round perplexities between two scores.

    >>> levels(-math.log(152), -math.log(138))
    [138.0, 140.0, 142.0, 144.0, 146.0, 148.0, 150.0, 152.0]
    """
    ends = scores.value(high), scores.value(low)
    rough = (ends[1] - ends[0]) / 7
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in (1, 2, 5, 10) if power * s >= rough)
    first, last = math.ceil(round(ends[0] / step, 9)), math.floor(round(ends[1] / step, 9))
    return [i * step for i in range(first, last + 1)]


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
    across = min(sizes) / 1.1, max(sizes) * 1.1
    if scores.is_loss(high):
        return across, (low - room, min(high + room, -1e-3))
    return across, (max(0.0, low - room), min(1.0 + room, high + room))


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
        f"validation {what(points)}",
        HEIGHT,
        xaxis={"range": ends, "tickformat": "~s", **({"type": "log", "dtick": "D2"} if is_wide else {})},
        yaxis=upright(up),
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
    return f"{what}<br>{size}, validation {scores.name(row['accuracy'])} {percent(row['accuracy'])}<br>({interval(row)})"
