"""Every design that a search tried as a point: what it costs, how often it is right, and who was trained for long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from engine.figures.design_search import CONVOLUTIONS
from pages.parts import charts
from pages.parts.figures import caption

COLOURS = dict(zip(CONVOLUTIONS, charts.SERIES, strict=False))
WORDS = {"standard": "its own convolutions", "separable": "separable", "grouped": "in groups"}

MARKS = (
    "A star is the chosen one, a diamond was made by hand; small points were dropped before the last round."
)

WIDE = 4  # times the smallest cost: from here on an axis has few ticks

Row = Mapping[str, Any]


def draw(designs: pd.DataFrame) -> None:
    """The points, the front of those in the last round, and a sentence on them."""
    rows = designs.to_dict("records")
    st.plotly_chart(chart(rows), key="designs", config={"displayModeBar": False}, alt=said(rows))
    st.html(caption(f"{said(rows)} {MARKS}"))


def live(series: Sequence[Mapping[str, float]], key: str) -> None:
    """The designs that were trained so far, each as it was trained last; nothing where there are none."""
    last = {row["design"]: row for row in series if "design" in row}
    rows: list[Row] = [{**row, "convolutions": CONVOLUTIONS[int(row["kind"])]} for row in last.values()]
    if rows:
        words = f"{_many(len(rows), 'design was', 'designs were')} trained so far."
        st.plotly_chart(chart(rows), key=f"designs-{key}", config={"displayModeBar": False}, alt=words)
        st.html(caption(words))


def cost(rows: Sequence[Row]) -> str:
    """The column that was limited."""
    return "bytes" if any(pd.isna(row.get("share_of_time")) for row in rows) else "share_of_time"


def said(rows: Sequence[Row]) -> str:
    """What came of the search, in sentences.

    >>> def row(right, epochs, by_hand=False, chosen=False):
    ...     costs = {"bytes": 4000, "share_of_time": None}
    ...     return {**costs, "accuracy": right, "epochs": epochs, "by_hand": by_hand, "chosen": chosen}
    >>> said([row(0.7, 3, by_hand=True), row(0.8, 1), row(0.9, 3, chosen=True)])
    '3 designs were tried, 2 of them for 3 epochs. The chosen one has 4,000 bytes without its recipe and is right \
in 90.0 % of validation samples; the best of 1 made by hand in 70.0 %.'
    """
    (own,) = (row for row in rows if row["chosen"])
    longest = max(row["epochs"] for row in rows)
    last = [row for row in rows if row["epochs"] == longest]
    hand = [row["accuracy"] for row in last if row["by_hand"]]
    size = (
        f"has {own['bytes']:,.0f} bytes without its recipe"
        if cost(rows) == "bytes"
        else f"takes {100 * own['share_of_time']:.0f} % of the model's time ({own['milliseconds']:.3g} ms)"
    )
    beside = "none made by hand keeps to the budget"
    if hand:
        beside = f"the best of {len(hand)} made by hand in {100 * max(hand):.1f} %"
    if own["by_hand"]:
        beside = "it was made by hand"
    return (
        f"{_many(len(rows), 'design was', 'designs were')} tried, {len(last)} of them for "
        f"{_many(longest, 'epoch')}. The chosen one {size} and is "
        f"right in {100 * own['accuracy']:.1f} % of validation samples; {beside}."
    )


def chart(rows: Sequence[Row]) -> charts.Chart:
    """Accuracy against cost: a colour for each kind of convolution, larger points for longer trainings."""
    across = cost(rows)
    front = sorted((row for row in rows if row.get("on_front")), key=lambda row: row[across])
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "front of the last round",
        "x": [row[across] for row in front],
        "y": [row["accuracy"] for row in front],
        "line": {"color": charts.ORIGINAL, "width": 1.5, "shape": "hv", "dash": "dot"},
        "hoverinfo": "skip",
    }
    kinds = [kind for kind in COLOURS if any(row["convolutions"] == kind for row in rows)]
    title = "bytes of the file (counted)" if across == "bytes" else "time over the model's (measured here)"
    costs = [row[across] for row in rows]
    ticks = {"dtick": "D2"} if max(costs) > WIDE * min(costs) else {}  # 1, 2 and 5 alone: more would overlap
    return charts.chart(
        [line, *(_points(rows, kind, across) for kind in kinds)],
        title,
        "validation accuracy (measured)",
        340,
        xaxis={"tickformat": "~s" if across == "bytes" else "~g", "type": "log", **ticks},
        yaxis={"tickformat": ".1~%"},
    )


def _points(rows: Sequence[Row], kind: str, across: str) -> charts.Chart:
    own, longest = [row for row in rows if row["convolutions"] == kind], max(row["epochs"] for row in rows)
    own.sort(key=lambda row: bool(row["by_hand"]))  # the legend has the mark of the first
    return {
        "type": "scatter",
        "mode": "markers",
        "name": WORDS.get(kind, kind),
        "x": [row[across] for row in own],
        "y": [row["accuracy"] for row in own],
        "text": [hover(row) for row in own],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": COLOURS[kind],
            "size": [16 if row.get("chosen") else 11 if row["epochs"] == longest else 6 for row in own],
            "symbol": [_symbol(row) for row in own],
            "opacity": [1.0 if row["epochs"] == longest else 0.5 for row in own],
        },
    }


def _symbol(row: Row) -> str:
    if row.get("chosen"):
        return "star"
    return "diamond" if row["by_hand"] else "circle"


def hover(row: Row) -> str:
    """What a point says under the pointer."""
    widths = " / ".join(f"{100 * row[f'{part}_width']:.0f}" for part in ("first", "middle", "last"))
    made = "by hand" if row["by_hand"] else f"design {row['design']:.0f}"
    less = {"of the layers that can be skipped": row["depth"], "of the images' sides": row["resolution"]}
    fewer = [f"{100 * share:.0f} % {words}" for words, share in less.items() if share < 1]
    kernels = [_many(row["smaller_kernels"], "smaller kernel")] if row["smaller_kernels"] else []
    layers = "its own convolutions"
    if row["convolutions"] != "standard":
        layers = f"{_many(row['replaced'], 'layer')} {row['convolutions']}"
    others = "".join(f", {each}" for each in (*fewer, *kernels))
    return (
        f"{made}: {widths} % of the channels (about), {layers}{others}<br>"
        f"{row['parameters']:,.0f} parameters, {row['macs']:,.0f} multiply-adds, {row['bytes']:,.0f} bytes<br>"
        f"{100 * row['accuracy']:.1f} % after {_many(row['epochs'], 'epoch')}"
    )


def _many(count: float, one: str, more: str = "") -> str:
    """
    >>> _many(1, "epoch"), _many(3, "epoch")
    ('1 epoch', '3 epochs')
    """
    return f"{count:.0f} {one if count == 1 else more or one + 's'}"
