"""Why the soft loss is multiplied by T^2: how hard it pulls at a student's logits, with and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import streamlit as st
import torch

from engine.figures import measure, softening
from engine.net import zoo
from engine.types import Bundle
from pages.parts import cached, charts, panel
from pages.parts.live import Marks

CHART, SAMPLES = "pulls", 200
NAMES = {"soft": "soft answers", "scaled": "soft answers, times T²", "hard": "labels"}


def draw(
    subject: str, teachers: Sequence[Bundle], learner: Bundle, temperature: float
) -> Callable[[float], Marks]:
    """The chart, with the present temperature; what its marks are at another one."""
    table = _pulls(subject, teachers, learner)
    st.subheader("Why the loss is multiplied by T²", anchor=False)
    shown = table.rename(columns=NAMES).melt("temperature", var_name="loss", value_name="gradient")
    figure = charts.lines(
        shown,
        "temperature",
        "gradient",
        "loss",
        titles=("temperature", "gradient at the student's logits"),
        height=250,
        at=temperature,
    )
    for trace in figure["data"]:
        trace["mode"] = "lines"
    figure["layout"]["yaxis"] |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    now = _at(table, temperature)
    words = (
        f"At temperature {temperature:g} the soft answers pull with {now['soft']:.2g}, times T² with {now['scaled']:.2g}, "
        f"and the labels with {now['hard']:.2g}"
    )
    st.plotly_chart(figure, key=CHART, config={"displayModeBar": False}, alt=words)
    st.caption(
        f"{words}: norms of gradients by autograd, means of {SAMPLES} validation samples. Without T² the teacher would "
        "fall silent as T rises, and the weight between it and the labels would mean something else at each T."
    )
    return lambda stop: {CHART: _marks(table, stop)}


def _pulls(subject: str, teachers: Sequence[Bundle], learner: Bundle) -> pd.DataFrame:
    """The three gradients at each stop of the slider."""

    def work() -> dict[str, list[float]]:
        held = cached.images(subject)
        assert held is not None
        sample = held.validation.stratified(SAMPLES)
        own, *theirs = (measure.logits(zoo.build(bundle), sample) for bundle in (learner, *teachers))
        stops = panel.sliders("distill", teachers[0])["temperature"]
        goal = theirs[0] if len(theirs) == 1 else torch.stack(theirs)
        rows = softening.pulls(own, goal, sample.labels, stops)
        return {str(name): column.tolist() for name, column in rows.items()}

    names = [each.fingerprint for each in (*teachers, learner)]
    found = cached.answer(f"pulls {subject} {names}", work)
    return pd.DataFrame(found)


def _at(table: pd.DataFrame, temperature: float) -> dict[str, float]:
    return {name: float(np.interp(temperature, table["temperature"], table[name])) for name in NAMES}


def _marks(table: pd.DataFrame, temperature: float) -> list[dict[str, object]]:
    colours = dict(zip(NAMES, charts.SERIES, strict=False))
    return [
        {"kind": "dot", "x": temperature, "y": value, "text": f"{value:.2g}", "colour": colours[name]}
        for name, value in _at(table, temperature).items()
    ]
