"""Accuracy against real bytes along a page's main setting: the curve, and where its slider is on it.

The chart is drawn by Plotly when points have come; `curve.js` moves the present point over it. Points that are
missing are worked out by a job, the present one first, when the page has rested for a moment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import streamlit as st

from engine.jobs import curves
from engine.jobs.job import Job
from engine.recipe import curve, technique
from engine.types import Bundle, Recipe, SlimscopeError
from pages.parts import cached, charts, components, figures, jobs, knobs, panel, session
from pages.parts.charts import Chart

TITLE = "Accuracy and size along a setting"
HEIGHT = 230
WIDE = 4.0  # times between smallest and largest file from which the axis is logarithmic
LOOKS = {  # rank -> name in the legend, colour, symbol, opacity
    "front": ("less accurate", charts.KEPT, "circle", 1.0),
    "tie": ("as accurate as the original", charts.ORIGINAL, "circle", 1.0),
    "dominated": ("a smaller file is as good", charts.KEPT, "circle-open", 0.45),
    "original": ("original", charts.ORIGINAL, "diamond", 1.0),
}


@dataclass(frozen=True)
class View:
    """A curve as it is now: its points, and the place of the slider."""

    subject: str
    of: curves.Course
    name: str
    settings: Mapping[str, Any]
    stops: list[Any]
    rows: list[curves.Row]

    @property
    def now(self) -> Any:
        return self.settings[self.of.setting]

    @property
    def recipe(self) -> Recipe:
        """The recipe with the slider where it is."""
        return self.of.at(self.now)

    @property
    def more(self) -> dict[str, Any]:
        """What a job is told beside the recipe, in which steps that are switched off are left out."""
        return {"step": self.of.live_number, "setting": self.of.setting}

    @property
    def is_in_view(self) -> bool:
        """Whether the tiles are about the same recipe: then they have measured it."""
        return self.recipe.key == technique.complete(session.recipe().live).key

    @property
    def size(self) -> float | None:
        """Bytes of the real file, where the tiles have measured them."""
        return (
            cached.size(self.subject, self.recipe.key).value
            if self.is_in_view and not self.is_large
            else None
        )

    @property
    def is_large(self) -> bool:
        return cached.is_large(self.subject)

    @property
    def tested(self) -> str:
        """Test accuracy as the tiles have it, in words; nothing where they have none."""
        if not self.is_in_view:
            return ""
        whole = cached.full_accuracy(self.subject, self.recipe.key)
        if whole is None and self.is_large:
            return ""
        n = cached.sample_size(self.subject)
        now = whole[0] if whole else cached.accuracy(self.subject, self.recipe.key, n)[0]
        return f"; test accuracy {figures.text(now.value, 'share')}"

    @cached_property
    def points(self) -> list[curves.Row]:
        """The rows that have a point: the original's, and those that were not refused."""
        return [row for row in self.rows if row["accuracy"] is not None]

    @cached_property
    def window(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return window(self.points)

    def worded(self, value: Any) -> str:
        """The setting with a value, as people read it: Sparsity 90 %."""
        knob = technique.get(self.name).knobs[self.of.setting]
        label = knob.label or self.of.setting.replace("_", " ").capitalize()
        return f"{label} {panel.written(knob, value)}"

    def place(self, size: float, accuracy: float) -> tuple[float, float]:
        """A point on the chart; one that is outside of what it shows is at its edge."""
        across, up = self.window
        return min(max(size, across[0]), across[1]), min(max(accuracy, up[0]), up[1])


def draw(subject: str, name: str, bundle: Bundle) -> None:
    """The chart and, in words, the present point; a sentence where there can be no curve.

    `bundle` enters the step of the technique `name` that the page is about.
    """

    @st.fragment
    def drawn() -> None:
        try:
            view = look(subject, name, bundle)
        except SlimscopeError as error:
            st.caption(f"{str(error).removesuffix('.')}.")
            return
        _draw(view)

    drawn()


def look(subject: str, name: str, bundle: Bundle) -> View:
    """The curve of the page's step as it stands. Raises SlimscopeError with the reason where there is none."""
    if not cached.parts(subject)[1]:
        raise SlimscopeError("Without a known architecture there is no accuracy, and no curve of it")
    whole, at = knobs.shown(name)
    settings = whole.steps[at].settings
    setting = curve.main_setting(name, settings)
    if setting is None:
        raise SlimscopeError("This technique has no slider that a curve could run along")
    of = cached.course(subject, curves.normal(whole, at + 1, setting).key, at + 1, setting)
    stops = panel.sliders(name, bundle).get(setting) or of.values
    return View(subject, of, name, settings, stops, curves.known(of, settings[setting]))


def _draw(view: View) -> None:
    alt = f"Validation accuracy against file size, {len(view.points)} points."
    st.plotly_chart(chart(view), key="curve", config={"displayModeBar": False}, alt=alt)
    why, job = curves.why_not(view.of), _job(view)
    left = not why and bool(curves.missing(view.of, view.rows, view.now)) and (job is None or job.open)
    asked = components.curve(
        {**message(view, _progress(view, job, why)), "alt": alt, "left": left}, "curve-now"
    )
    if asked and left and job is None:
        jobs.ensure(session.owner(), "curve", TITLE, view.subject, view.recipe.key, **view.more)


def _job(view: View) -> Job | None:
    """The job that works this curve out from this place of the slider; None where one may be asked for."""
    job = jobs.about(session.owner(), "curve", view.subject, view.recipe.key, **view.more)
    if job is None or job.state in ("replaced", "interrupted") or (view.of.trains and job.state == "done"):
        return None
    return job


def _progress(view: View, job: Job | None, why: str) -> str:
    """What is missing of the curve, in a sentence; nothing where it is all there."""
    if why or view.of.trains:
        return why or "Only what was trained has a point here."
    if job is not None and job.state == "failed":
        return f"The curve can't be worked out: {job.error}."
    there, most = len(view.rows), min(view.of.most, len(view.of.values))
    if there > most:
        return ""
    return f"{there} of about {most} points are measured; the others follow in the background."


# ---------------------------------------------------------------- the present point, for `curve.js`


def message(view: View, more: str) -> dict[str, Any]:
    """What the browser shows at each stop of the slider by itself, and what is measured at the present one."""
    near = curve.between(view.stops, view.rows)
    exact = {row["value"]: row for row in view.points}
    places = [
        None if near is None else _place(view, stop, *near[i], exact.get(stop))
        for i, stop in enumerate(view.stops)
    ]
    here = _here(view, exact.get(view.now))
    return {
        "name": view.name,
        "setting": view.of.setting,
        "settings": dict(view.settings),
        "stops": view.stops,
        "places": places,
        "now": None if here is None else {**here, "words": f"{here['words']} {more}".strip()},
        "visited": _visited(view, exact),
        "none": more or f"{view.worded(view.now)}: not measured yet.",
        "other": "These settings have a curve of their own: it follows.",
    }


def _place(
    view: View, value: Any, size: float, accuracy: float, row: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The point at a stop: of its row, or between those beside it, marked as such."""
    near = "" if row else "≈ "
    x, y = view.place(size, accuracy)
    words = f"{figures.text(size, 'B')}, validation accuracy {near}{percent(accuracy)}"
    interval = "" if row is None else f" ({_interval(row)})"
    label = f"{near}{figures.text(size, 'B')}, {percent(accuracy)}"
    return {"x": x, "y": y, "label": label, "words": f"{view.worded(value)}: {near}{words}{interval}."}


def _here(view: View, row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The present point: bytes of the real file, validation accuracy where it is measured, and test accuracy."""
    size = view.size if row is None else row["bytes"]
    near = curve.between([view.now], view.rows)
    if row is None and (size is None or near is None):
        return None
    accuracy = row["accuracy"] if row is not None else near[0][1]  # type: ignore[index]
    point = _place(view, view.now, size, accuracy, row)
    if row is None:  # the file is measured, its validation accuracy is not yet
        point["words"] = point["words"].replace("≈ ", "", 1)
    return {**point, "words": f"{point['words'].removesuffix('.')}{view.tested}."}


def _visited(view: View, exact: Mapping[Any, Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Where the slider rested before, in this visit: points that were measured."""
    visits = st.session_state.setdefault("visited", {}).setdefault(view.of.stamp, [])
    if view.now in exact and view.now not in visits:
        visits.append(view.now)
    return [view.place(exact[v]["bytes"], exact[v]["accuracy"]) for v in visits if v in exact]


def percent(share: float) -> str:
    """An accuracy as the chart says it.

    >>> percent(0.98214)
    '98.2 %'
    """
    return f"{100 * share:.1f} %"


def _interval(row: Mapping[str, Any]) -> str:
    unsettled = ": not settled" if row["n"] < figures.SETTLES else ""
    return f"{100 * row['low']:.1f} to {100 * row['high']:.1f}, n = {row['n']:,}{unsettled}"


# ---------------------------------------------------------------- the chart


def window(points: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], tuple[float, float]]:
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


def chart(view: View) -> Chart:
    """The curve: its line, and points by what they are; what is missing is said in its middle."""
    across, up = view.window
    points = [row for row in view.points if row["value"] is not None]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [row["bytes"] for row in points],
        "y": [row["accuracy"] for row in points],
        "line": {"color": charts.KEPT, "width": 1},
        "opacity": 0.6,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    ranked = list(zip(view.points, curve.ranks(view.points), strict=True))
    traces = [_trace(view, rank, [row for row, its in ranked if its == rank]) for rank in LOOKS]
    is_wide = across[1] > WIDE * across[0]
    ends = [math.log10(end) for end in across] if is_wide else list(across)
    figure = charts.chart(
        [line, *(trace for trace in traces if trace["x"])],
        "file size in bytes (measured)",
        "validation accuracy",
        HEIGHT,
        xaxis={"range": ends, "tickformat": "~s", **({"type": "log", "dtick": "D2"} if is_wide else {})},
        yaxis={"range": list(up), "tickformat": ".0%", "nticks": 6},
        dragmode=False,
    )
    if not points:
        figure["layout"]["annotations"] = [{**EMPTY, "text": "The first points are being worked out ..."}]
    return figure


EMPTY = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False, "font": {"size": 14}}


def _trace(view: View, rank: str, rows: Sequence[Mapping[str, Any]]) -> Chart:
    name, colour, symbol, opacity = LOOKS[rank]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row["bytes"] for row in rows],
        "y": [row["accuracy"] for row in rows],
        "customdata": [row["value"] for row in rows],
        "text": [_hover(view, row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "opacity": opacity,
        "marker": {"size": 9 if rank == "original" else 7, "color": colour, "symbol": symbol},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [row["high"] - row["accuracy"] for row in rows],
            "arrayminus": [row["accuracy"] - row["low"] for row in rows],
            "thickness": 1,
            "width": 0,
            "color": colour,
        },
    }


def _hover(view: View, row: Mapping[str, Any]) -> str:
    what = "The original" if row["value"] is None else view.worded(row["value"])
    size = figures.text(row["bytes"], "B")
    return f"{what}<br>{size}, validation accuracy {percent(row['accuracy'])}<br>({_interval(row)})"
