"""Step sizes, scales and intervals as they learn, over what they began with, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from engine.figures import few_bits
from pages.parts import charts


def live(rows: Sequence[Mapping[str, float]], key: str) -> None:
    """The steps of the run that is at work; nothing where none learn."""
    if rows:
        draw(few_bits.step_table([row for row in rows if row.get("run") == rows[-1].get("run")]), key)


def draw(steps: pd.DataFrame, key: str) -> None:
    """A chart for the weights and one for what enters layers, side by side."""
    kinds = list(steps.groupby("of", sort=False))
    for place, (of, some) in zip(st.columns(len(kinds) or 1), kinds, strict=False):
        chart = charts.lines(
            some,
            "epoch",
            "times_first",
            "layer",
            titles=("epoch", _what(of)),
            height=240,
        )
        place.plotly_chart(
            chart,
            key=f"steps-{of}-{key}",
            config={"displayModeBar": False},
            alt=f"{_what(of).capitalize()}, of each layer after each epoch",
        )


def _what(of: str) -> str:
    """What a chart shows: step sizes, the ends of intervals, or scales."""
    known = {name: f"{name}: step size / first" for name in (few_bits.OF_WEIGHTS, few_bits.OF_INPUTS)}
    ends = {name: f"{name} / first clip point" for name in (few_bits.PRUNED, few_bits.CLIPPED)}
    return {**known, **ends}.get(of, f"{of}: scale / first")
