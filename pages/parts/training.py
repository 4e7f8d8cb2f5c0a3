"""A technique that trains, on a page: its controls, a run button with progress, and what it brought."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from engine.recipe import technique
from engine.types import Report, SlimscopeError
from pages.parts import cached, charts, figures, jobs, keeping, knobs, panel, session, spoken, view, visitor
from pages.parts.fold import fold
from pages.parts.pictures import distilled, factor_maps, step_sizes, tried_designs


def controls(name: str) -> None:
    """The technique's panel."""
    panel.draw(name, cached.original(session.subject()))


def outcome(name: str, offer: Any = st, title: str = "") -> Report | None:
    """Run button and live curves of an untrained step, in `offer`; curve, figures, notes and report of a trained one.

    The `title` stands over what a trained one shows.
    """
    reached = jobs.reached(session.subject(), knobs.through(name), offer)
    if reached is None:
        return _before(name, title)
    view.note_trained(name, knobs.current(name))
    if offer is st:  # elsewhere the recipe's own row has it
        keeping.draw(name)
    return _report(name, reached[1][-1], title)


def _before(name: str, title: str) -> Report | None:
    """What was trained before, with other settings, marked as that: it stays until the new settings are trained."""
    step = view.last_trained(name)
    with suppress(SlimscopeError):
        report = cached.after(session.subject(), knobs.before(name).then(step).key)[1][-1]
        return _report(name, report, title, f"**As of before**, with {spoken.changed(step)}:")
    return None


def _report(name: str, report: Report, title: str, since: str = "") -> Report:
    if title:
        st.subheader(title, anchor=False)
    if since:
        st.caption(since)
    if "designs" in report.tables:
        tried_designs.draw(report.tables["designs"])
    if "curve" in report.tables:
        _curve(name, report.tables["curve"])
    if "steps" in report.tables:
        step_sizes.draw(report.tables["steps"], name)
    if "images" in report.tables:
        distilled.draw(report.tables["images"])
    if "maps" in report.tables:
        factor_maps.draw(report.tables["maps"])
    row = (figures.Tile(figures.titled(f.name), f, figures.said(f)) for f in report.figures)
    st.html(figures.tiles(row, still=True))
    if report.notes:
        st.html("".join(map(figures.caption, report.notes)))
    return report


def _curve(name: str, curve: pd.DataFrame) -> None:
    """Validation accuracy after each epoch."""
    chart = charts.lines(
        curve,
        "epoch",
        "validation accuracy",
        "run" if "run" in curve else None,
        titles=("epoch", "validation accuracy"),
        percent=True,
        height=220,
    )
    st.plotly_chart(
        chart,
        key=f"learned-{name}",
        config={"displayModeBar": False},
        alt="Validation accuracy after each epoch",
    )


def section(name: str, title: str, lead: str, draw: Callable[[Report], object] = lambda report: None) -> None:
    """A fold with controls on the left and the outcome on the right; `draw` adds what a trained one shows.

    Where the technique cannot work on the model, its words stand there instead.
    """
    fold(title, name, partial(_inside, name, lead, draw))


def _inside(name: str, lead: str, draw: Callable[[Report], object]) -> None:
    st.caption(lead)
    if visitor.why_idle():
        st.caption(visitor.why_idle())
        return
    report = side_by_side(name) if suits(name) else None
    if report is not None:
        draw(report)


def suits(name: str) -> bool:
    """Whether the technique can work on the model; where it can't, its words stand on the page."""
    why_not = technique.get(name).why_not(cached.original(session.subject()))
    if why_not:
        st.info(why_not)
    return not why_not


def side_by_side(name: str) -> Report | None:
    """Controls on the left, the outcome on the right."""
    left, right = st.columns([1, 2], gap="medium")
    with left:
        controls(name)
    with right:
        return outcome(name)
