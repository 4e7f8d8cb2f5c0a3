"""The outlier lab: the largest weight of a layer is dragged out, and what all others lose is seen at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from engine.tensor import outlier
from pages.parts import cached, charts, figures
from pages.parts.figures import Column, caption
from pages.parts.live import Scene

TITLE = "Outlier lab: drag one weight out"
STOPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
MOST = 1_000_000  # weights of a layer that is rounded at each stop
NAMES = {"tensor": "layer", "channel": "output", "group": "group"}
COLUMNS = {
    "scale": Column("one scale per"),
    "scales": Column("scales"),
    "step": Column("the outlier's step"),
    "sharing": Column("others with that step"),
    "levels": Column("levels"),
    "levels_used": Column("of them used"),
    "sqnr_db": Column("signal to noise of all others", "dB"),
}


@st.fragment
def draw(scene: Scene) -> None:
    """A slider, a table and a curve; by itself, so that a move draws nothing else."""
    if scene.large or scene.weight.numel() > MOST:
        st.html(caption(f"Shown for layers of up to {MOST:,} weights of models that are held in memory."))
        return
    chosen = scene.step.settings
    bits = int(chosen["per_layer"].get(scene.layer, chosen["bits"]))
    times = st.select_slider(
        "Largest weight, times its size",
        STOPS,
        1.0,
        format_func=lambda stop: f"{stop:g} x",
        key="outlier-times",
        help="Only the largest weight of the layer moves; all others stay as they are.",
    )
    rows = _rows(scene, bits, chosen["scheme"] == "symmetric", chosen["group"])
    st.html(figures.table(rows[rows["times"] == times], COLUMNS) + caption(_said(rows, times)))
    st.plotly_chart(
        charts.lines(
            rows[np.isfinite(rows["sqnr_db"])],
            "times",
            "sqnr_db",
            "per",
            titles=("largest weight, times its size", "signal to noise of all others, dB"),
            height=240,
            at=times,
        ),
        key="outlier-curve",
        config={"displayModeBar": False},
        alt="Signal to noise of all other weights while the largest is made larger, for three granularities",
    )
    st.html(
        caption(
            f"The weights of {scene.layer} as they enter the step, in {bits} bits, {chosen['scheme']}, groups of "
            f"{chosen['group']}, ranges from the smallest to the largest. A test by itself: neither the recipe nor any "
            "figure above changes."
        )
    )


def _rows(scene: Scene, bits: int, symmetric: bool, group: int) -> pd.DataFrame:
    """All stops; they stay while the slider moves."""

    def work() -> dict[str, Any]:
        return outlier.costs(scene.weight, STOPS, bits, symmetric, group).to_dict("list")

    told = cached.answer(
        f"outlier {scene.subject} {scene.key} {scene.layer} {bits} {symmetric} {group}", work
    )
    assert told is not None
    rows = pd.DataFrame(told)
    scale = rows["one_scale_per"].map(NAMES)
    return rows.assign(scale=scale, per="one scale per " + scale)


def _said(rows: pd.DataFrame, times: float) -> str:
    """What became of the others where one scale is for the whole layer, and where each group has one."""
    now = rows[rows["times"] == times].set_index("one_scale_per")
    first = rows[rows["times"] == 1.0].set_index("one_scale_per")
    whole = now.loc["tensor"]
    lost = {word: first.loc[word, "sqnr_db"] - now.loc[word, "sqnr_db"] for word in ("tensor", "group")}
    used = (
        f"With one scale for the layer, {whole['levels_used']:,} of {whole['levels']:,} levels are left to the other "
        f"{whole['sharing']:,} weights"
    )
    if times == 1.0 or not np.isfinite([*lost.values()]).all():
        return f"{used}. Drag the largest weight out."
    return f"{used}: they lose {lost['tensor']:.1f} dB, with one scale per group {lost['group']:.1f} dB."
