"""A technique that trains, on a page: its controls, a run button with progress, and what it brought."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from engine.recipe import technique
from engine.types import Report, SlimscopeError
from pages.parts import cached, charts, figures, jobs, knobs, panel, session


def controls(name: str) -> None:
    """The technique's panel, and whether it is in the recipe."""
    panel.draw(name, cached.original(session.subject()))
    knobs.membership(name)


def outcome(name: str) -> Report | None:
    """Run button and live curves of an untrained step; curve, figures, notes and report of a trained one."""
    if knobs.find(name) is None:
        st.info("Add the step to the recipe to train it.", icon=":material/model_training:")
        return None
    reached = jobs.reached(session.subject(), knobs.through(name))
    if reached is None:
        return None
    report = reached[1][-1]
    if "curve" in report.tables:
        _curve(name, report.tables["curve"])
    row = (figures.Tile(f.name.capitalize(), f, figures.said(f)) for f in report.figures)
    st.html(figures.tiles(row))
    for note in report.notes:
        st.caption(note)
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
        height=240,
    )
    st.plotly_chart(
        chart,
        key=f"learned-{name}",
        config={"displayModeBar": False},
        alt="Validation accuracy after each epoch",
    )


def section(name: str, title: str, lead: str) -> Report | None:
    """Controls on the left, outcome on the right, under a heading of their own; the report, once trained.

    Where the technique cannot work on the net, its words stand there instead.
    """
    st.subheader(title, anchor=False)
    st.caption(lead)
    if session.why_idle():
        st.caption(session.why_idle())
        return None
    try:
        technique.get(name).possible(cached.original(session.subject()))
    except SlimscopeError as error:
        st.info(str(error))
        return None
    left, right = st.columns([1, 2], gap="medium")
    with left:
        controls(name)
    with right:
        return outcome(name)
