"""Accuracy against real bytes along a page's main setting: the curve, and where its slider is on it.

The chart is drawn by Plotly when points have come; `curve.js` moves the present point over it. Points that are
missing are worked out by a job, the present one first, when the page has rested for a moment.
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
        """The rows that have a point: the original's, and those that were not refused."""
        return [row for row in self.rows if row["accuracy"] is not None]

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
    return View(subject, of, name, settings, stops, curves.known(of, settings[setting]))


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
    asked = components.curve({**message(view, more), "alt": alt, "left": left}, "size-curve-now")
    if asked and left and job is None:
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


def _visited(view: View, exact: Mapping[Any, Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Where the slider rested before, in this visit: points that were measured."""
    visits = st.session_state.setdefault("visited", {}).setdefault(view.of.stamp, [])
    if view.now in exact and view.now not in visits:
        visits.append(view.now)
    return [view.place(exact[v]["bytes"], exact[v]["accuracy"]) for v in visits if v in exact]
