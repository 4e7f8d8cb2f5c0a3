"""All techniques on one plot: accuracy against real bytes, dominated points pale, the original and you marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
import streamlit as st

from engine.figures import scores
from engine.jobs import curves, fronts
from engine.recipe import front, technique
from pages.parts import cached, charts, curve_chart, fold, jobs, menu, visitor
from pages.parts.charts import Chart
from pages.parts.decide import points
from pages.parts.decide.points import Row, View

HEIGHT = 400
*COLOURS, MIXED = (colour for colour in charts.SERIES if colour != charts.ORIGINAL)
PALE = 0.35
ROOM = 0.12  # of the plot's height, for words over the best points
ALL = "All techniques on one plot"


def draw(view: View, advice: front.Advice | None, pinned: Sequence[str], pin: Callable[[str], None]) -> None:
    """The plot; a click pins a point. A button measures techniques of which nothing is known."""
    if view.is_empty:
        _missing(view)
    if not view.rows:
        return
    st.plotly_chart(
        chart(view, advice, pinned),
        key="decide-plot",
        on_select=lambda: _clicked(view, pin),
        selection_mode="points",
        config={"displayModeBar": False},
        alt=alt(view),
    )
    st.caption(beneath(view))
    _here(view)
    if not view.is_empty:
        _missing(view)


def _here(view: View) -> None:
    """Why the recipe in hand is not on the plot, until a job that nobody pressed a button for has measured it."""
    if view.problem:
        return st.caption(f"Your recipe is not on the plot: {view.problem.rstrip('.')}.")
    asked = points.measure_here(view)
    if asked is None:
        return None
    if asked.over:
        return st.caption(f"Your recipe is not on the plot: {asked.error.rstrip('.') or asked.state}.")

    @st.fragment(run_every=1.0)
    def follow() -> None:
        now = jobs.manager().get(visitor.owner(), asked.id)
        if now.over:
            st.rerun()
        st.caption(f"Your recipe is being measured for this plot: {now.progress:.0%}.")

    follow()
    return None


def _missing(view: View) -> None:
    """Offer to measure what is not known yet, and follow it; say why where that can't be."""
    of, job = cached.fronts(view.subject), jobs.latest("front")
    if job is not None and not job.over:
        return jobs.watch(job.id, lambda now: None)
    todo = fronts.missing(of)
    why = next((why for each in todo if (why := curves.why_not(each))), "")
    if why:
        return st.caption(why) if view.is_empty else None
    if job is not None and job.state == "done":
        refused = points.refusals(job)
        return st.caption(f"Not on the plot: {refused}.") if refused else None
    if todo:
        _offer(view, [points.group(each.step.technique) for each in todo])
    return None


def _offer(view: View, names: list[str]) -> None:
    if view.is_empty:
        st.info("No points of this model came with slimscope: they can be measured in the background.")
    st.button(
        f"Measure {len(names)} techniques" if len(names) > 1 else f"Measure {names[0]}",
        key="measure-fronts",
        type="primary" if view.is_empty else "secondary",
        icon=":material/play_arrow:",
        on_click=jobs.submit,
        args=("front", ALL),
        help=f"{', '.join(names)}: about {fronts.FEW} points each, in the background; they are kept.",
    )


def _clicked(view: View, pin: Callable[[str], None]) -> None:
    found = st.session_state["decide-plot"].selection.points
    if found and "customdata" in found[0]:
        said = found[0]["customdata"]
        pin(view.rows[int(said[0] if isinstance(said, list | tuple) else said)]["recipe"])


def alt(view: View) -> str:
    """The plot in a sentence."""
    names = sorted({points.group(row["technique"]) for row in view.rows if row["technique"]})
    return f"Validation {view.what} against file size: {len(view.rows)} points of {', '.join(names)}."


def beneath(view: View) -> str:
    """How the points were made, and what the plot does not show."""
    hidden = points.below(view)
    more = f" {hidden} less accurate points lie below: drag the plot up." if hidden else ""
    floor = curve_chart.window(view.rows)[1][0]
    rows = (row for row in view.rows if row["recipe"] in view.on_front and row["accuracy"] >= floor)
    named = (points.group(row["technique"]) for row in sorted(rows, key=lambda row: row["bytes"]))
    best = ", ".join(dict.fromkeys(named))
    return (
        f"Each point is a real file, and its {view.what} on {view.n:,} validation samples with its 95 % interval. Pale: "
        f"another point is as small and as accurate. On the front, from the smallest file: {best}. Point at a dot for its recipe; "
        f"a click pins it.{more}"
    )


# ---------------------------------------------------------------- the figure


def chart(view: View, advice: front.Advice | None, pinned: Sequence[str]) -> Chart:
    """The figure: a colour for each family, a symbol for each of its techniques, the front as a line, marks."""
    across, (bottom, top) = curve_chart.window(view.rows)
    up = (bottom, top + ROOM * (top - bottom))
    traces = [_line(view), *(_named(name, *look) for name, look in legend(view).items())]
    for name, (colour, symbol) in looks(view).items():
        rows = [row for row in view.rows if row["technique"] == name]
        best = [row for row in rows if row["recipe"] in view.on_front]
        pale = [row for row in rows if row["recipe"] not in view.on_front]
        traces += [
            _trace(view, some, name, colour, symbol, opacity)
            for some, opacity in ((best, 1.0), (pale, PALE))
            if some
        ]
    traces += _marks(view, advice, pinned)
    return charts.chart(
        traces,
        "file size in bytes (measured)",
        f"validation {view.what} (measured)",
        HEIGHT,
        xaxis={
            "type": "log",
            "range": [math.log10(end) for end in across],
            "tickformat": "~s",
            "dtick": "D2",
        },
        yaxis=curve_chart.upright(up),
        dragmode="pan",
    )


def family(name: str) -> str:
    """What the legend calls a row's technique: its group in the menu."""
    if name in ("", fronts.SEVERAL):
        return points.group(name)
    return menu.GROUPS.get(technique.get(name).family, "others")


def looks(view: View) -> dict[str, tuple[str, str]]:
    """Technique -> its family's colour and its own symbol, for those that have points: the same on every model."""
    there, styles = {row["technique"] for row in view.rows}, {}
    for colour, group in zip(COLOURS, (*menu.GROUPS.values(), "others"), strict=False):
        names = (name for name in technique.REGISTRY if family(name) == group)
        styles |= {name: (colour, symbol) for name, symbol in zip(names, cycle(charts.MARKERS))}
    styles |= {fronts.SEVERAL: (MIXED, "star"), "": (charts.ORIGINAL, "diamond")}
    return {name: style for name, style in styles.items() if name in there}


def legend(view: View) -> dict[str, tuple[str, str]]:
    """Family -> its colour, and the symbol of its first technique that is there."""
    found: dict[str, tuple[str, str]] = {}
    for name, look in looks(view).items():
        found.setdefault(family(name), look)
    return found


def _line(view: View) -> Chart:
    rows = sorted((row for row in view.rows if row["recipe"] in view.on_front), key=lambda row: row["bytes"])
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [row["bytes"] for row in rows],
        "y": [row["accuracy"] for row in rows],
        "line": {"color": charts.ORIGINAL, "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
        "name": "front",
        "showlegend": False,
    }


def _named(name: str, colour: str, symbol: str) -> Chart:
    """The legend's entry of a family: a trace without points, as those of its points may all be pale."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "x": [None],
        "y": [None],
        "marker": {"size": 8, "color": colour, "symbol": symbol},
    }


def _trace(view: View, rows: list[Row], name: str, colour: str, symbol: str, opacity: float) -> Chart:
    number = {row["recipe"]: i for i, row in enumerate(view.rows)}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": points.group(name),
        "legendgroup": family(name),
        "showlegend": False,
        "opacity": opacity,
        "x": [row["bytes"] for row in rows],
        "y": [row["accuracy"] for row in rows],
        "customdata": [number[row["recipe"]] for row in rows],
        "text": [hover(row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 8, "color": colour, "symbol": symbol},
        "error_y": charts.intervals(rows, "accuracy", thickness=1, width=0, color=colour),
    }


def hover(row: Row) -> str:
    """What a point says under the pointer."""
    return f"{points.label(row['recipe'])}<br>{points.size(row)}, validation {scores.name(row['accuracy'])} {points.accuracy(row)}"


def _marks(view: View, advice: front.Advice | None, pinned: Sequence[str]) -> list[Chart]:
    """Rings with words around the original, the recipe in hand, the recommended and the pinned points."""
    marks = points.marks(view, advice)
    for number, key in enumerate(pinned, 1):
        words, place = marks.get(key, ("", "bottom right"))
        marks[key] = (", ".join(filter(None, (f"pin {number}", words))), place)
    return [_mark(view.of[key], *mark) for key, mark in marks.items() if key in view.of]


def _mark(row: Row, words: str, place: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [row["bytes"]],
        "y": [row["accuracy"]],
        "text": [words],
        "textposition": place,
        "hoverinfo": "skip",
        "showlegend": False,
        "marker": {"size": 16, "symbol": "circle-open", "color": charts.CHANGED, "line": {"width": 2}},
    }


# ---------------------------------------------------------------- the same as a table


def table(view: View, pin: Callable[[str], None]) -> None:
    """A fold with all points as a table, where a row can be pinned."""
    fold.fold("All points as a table", "points", lambda: _table(view, pin))


def _table(view: View, pin: Callable[[str], None]) -> None:
    rows = sorted(view.rows, key=lambda row: (row["technique"], row["bytes"]))
    what = view.what

    def chosen() -> None:
        for place in st.session_state["decide-table"].selection.rows:
            pin(rows[place]["recipe"])

    st.dataframe(
        frame(view, rows),
        hide_index=True,
        key="decide-table",
        on_select=chosen,
        selection_mode="single-row",
        column_config={
            "bytes": st.column_config.NumberColumn("file in bytes", format="localized"),
            **{
                name: st.column_config.NumberColumn(
                    what if name == "accuracy" else name, format="%.1f" if what == "perplexity" else "percent"
                )
                for name in ("accuracy", "from", "to")
            },
        },
    )
    st.caption(f"Choose a row to pin it. Validation {what} with its 95 % interval.")


def frame(view: View, rows: Sequence[Row]) -> pd.DataFrame:
    """One row for each point, in words and numbers."""
    return pd.DataFrame(
        {
            "recipe": [points.label(row["recipe"]) for row in rows],
            "technique": [points.group(row["technique"]) for row in rows],
            "bytes": [row["bytes"] for row in rows],
            "accuracy": [scores.value(row["accuracy"]) for row in rows],
            "from": [min(scores.value(row["low"]), scores.value(row["high"])) for row in rows],
            "to": [max(scores.value(row["low"]), scores.value(row["high"])) for row in rows],
            "n": [row["n"] for row in rows],
            "on the front": [row["recipe"] in view.on_front for row in rows],
        }
    )
