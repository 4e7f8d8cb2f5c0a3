"""Accuracy against real bytes along a page's main setting: the curve, and where its slider is on it.

The chart is drawn by Plotly when points have come and the page rests, since that keeps the browser from answering;
`curve.js` moves the present point over it. Points that are missing are worked out by a job, the present one first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import streamlit as st

from engine.figures import scores
from engine.jobs import curves
from engine.jobs.job import Job
from engine.recipe import curve, technique
from engine.types import Bundle, Recipe, SlimscopeError
from pages.parts import (
    cached,
    components,
    curve_chart,
    figures,
    jobs,
    knobs,
    panel,
    spoken,
    tiles,
    unasked,
    view,
    visitor,
)

TITLE = "Accuracy and size along a setting"
FIRST = "The first points are being worked out ..."
NOW = "size-curve-now"  # the present point's component
DRAWN = "size-curve-drawn"  # the rows of the chart, for this visit
UNTRAINED = "Only what was trained has a point here."


@dataclass(frozen=True)
class View:
    """A curve as it is now: its points, and the place of the slider."""

    subject: str
    of: curves.Course
    name: str
    settings: Mapping[str, Any]
    stops: list[Any]
    rows: list[curves.Row]
    drawn: list[curves.Row]  # those that the chart shows: the rows of when the page last rested

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
        return self.recipe.key == technique.complete(view.now().live).key

    @property
    def size(self) -> float | None:
        """Bytes of the real file, where the tiles have measured them."""
        with suppress(SlimscopeError):
            if self.is_in_view and not cached.is_large(self.subject):
                return cached.size(self.subject, self.recipe.key).value
        return None

    @property
    def tested(self) -> str:
        """Test accuracy as its tile has it, in words; nothing where that has none."""
        if not self.is_in_view:
            return ""
        figure = tiles.accuracy(visitor.owner(), self.subject, self.recipe.key).figure
        return "" if figure is None else f"; test {figure.name} {figures.text(figure.value, figure.unit)}"

    @cached_property
    def points(self) -> list[curves.Row]:
        """The drawn rows that have a point: the original's, and those that were not refused."""
        return [row for row in self.drawn if row["accuracy"] is not None]

    @cached_property
    def exact(self) -> dict[Any, curves.Row]:
        """What is measured by now at values of the setting."""
        return {row["value"]: row for row in self.rows if row["accuracy"] is not None}

    @property
    def is_behind(self) -> bool:
        """Whether more is measured than the chart shows."""
        return not {row["value"] for row in self.rows} <= {row["value"] for row in self.drawn}

    @cached_property
    def window(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return curve_chart.window(self.points)

    def worded(self, value: Any) -> str:
        """The setting with a value, as people read it: Sparsity 90 %."""
        knob = technique.get(self.name).knobs[self.of.setting]
        label = knob.label or self.of.setting.replace("_", " ").capitalize()
        return f"{label} {spoken.written(knob, value)}"

    def place(self, size: float, accuracy: float) -> tuple[float, float]:
        """A point on the chart; one that is outside of what it shows is at its edge."""
        across, up = self.window
        room, edge = (across[1] / across[0]) ** 0.02, (up[1] - up[0]) / 20  # so that its dot is not cut
        x = min(max(size, across[0] * room), across[1] / room)
        return x, min(max(accuracy, up[0] + edge), up[1] - edge)


def draw(subject: str, name: str, bundle: Bundle) -> None:
    """The chart and, in words, the present point; a sentence where there can be no curve.

    `bundle` enters the step of the technique `name` that the page is about.
    """

    @st.fragment
    def drawn() -> None:
        try:
            _draw(look(subject, name, bundle))
        except SlimscopeError as error:
            st.caption(f"{str(error).removesuffix('.')}.")

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
    rows = curves.known(of, settings[setting])
    return View(subject, of, name, settings, stops, rows, _held(of, rows))


def _held(of: curves.Course, rows: list[curves.Row]) -> list[curves.Row]:
    """The rows that the chart shows until the browser, where the page rests, asks for more."""
    held = st.session_state.get(DRAWN)
    if held is None or held[0] != of.stamp or len(held[1]) < 2 or components.asks_again(NOW):
        held = st.session_state[DRAWN] = of.stamp, rows
    return held[1]


def _draw(view: View) -> None:
    job, why = _job(view), curves.why_not(view.of)
    left = not why and bool(curves.missing(view.of, view.rows, view.now)) and (job is None or job.open)
    more = why or _progress(view, job, left)
    if why and not view.points:
        st.caption(why)
        return
    alt = f"Validation {curve_chart.what(view.points)} against file size, {len(view.points)} points."
    figure = curve_chart.chart(view.points, view.worded, FIRST if left else more)
    st.plotly_chart(figure, key="size-curve", config={"displayModeBar": False}, alt=alt)
    asks = components.asks_again(NOW)
    components.curve({**message(view, more), "alt": alt, "left": left or view.is_behind}, NOW)
    if asks and left and job is None:
        unasked.ensure("curve", TITLE, view.subject, view.recipe.key, **view.more)


def _job(view: View) -> Job | None:
    """The job that works this curve out from this place of the slider; None where one may be asked for."""
    job = jobs.about(visitor.owner(), "curve", view.subject, view.recipe.key, **view.more)
    if job is None or job.state in ("replaced", "interrupted") or (view.of.trains and job.state == "done"):
        return None
    return job


def _progress(view: View, job: Job | None, left: bool) -> str:
    """What is missing of the curve, in a sentence; nothing where it is all there."""
    if job is not None and job.state == "failed":
        return f"The curve can't be worked out: {job.error}."
    if not view.points and job is not None and job.result is not None:
        return f"No point can be measured: {job.result['refused']}."
    if view.of.trains:
        return "" if any(map(curve.is_point, view.rows)) else UNTRAINED
    most = min(view.of.most, len(view.of.values)) + 1
    if not left or len(view.rows) > most:
        return ""
    return f"{len(view.rows)} of about {most} points are measured; the others follow in the background."


# ---------------------------------------------------------------- the present point, for `curve.js`


def message(view: View, more: str) -> dict[str, Any]:
    """What the browser shows at each stop of the slider by itself, and what is measured at the present one."""
    near = curve.between(view.stops, view.rows)
    places = [
        None if near is None else _place(view, stop, *near[i], view.exact.get(stop))
        for i, stop in enumerate(view.stops)
    ]
    here = _here(view, view.exact.get(view.now))
    return {
        "name": view.name,
        "setting": view.of.setting,
        "settings": dict(view.settings),
        "stops": view.stops,
        "places": places,
        "now": None if here is None else {**here, "words": f"{here['words']} {more}".strip()},
        "visited": _visited(view),
        "none": more or f"{view.worded(view.now)}: not measured yet.",
        "other": "These settings have a curve of their own: it follows.",
    }


def _place(
    view: View, value: Any, size: float, accuracy: float, row: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The point at a stop: of its row, or between those beside it, marked as such."""
    near = "" if row else "≈ "
    x, y = view.place(size, accuracy)
    words = (
        f"{figures.text(size, 'B')}, validation {scores.name(accuracy)} {near}{curve_chart.percent(accuracy)}"
    )
    interval = "" if row is None else f" ({curve_chart.interval(row)})"
    below = " ↓" if accuracy < y else ""
    label = f"{near}{figures.text(size, 'B')}, {curve_chart.percent(accuracy)}{below}"
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


def _visited(view: View) -> list[tuple[float, float]]:
    """Where the slider rested before, in this visit: points that were measured."""
    visits = st.session_state.setdefault("visited", {}).setdefault(view.of.stamp, [])
    if view.now in view.exact and view.now not in visits:
        visits.append(view.now)
    rows = [view.exact[value] for value in visits if value in view.exact]
    return [view.place(row["bytes"], row["accuracy"]) for row in rows]
