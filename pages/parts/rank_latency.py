"""Which split layers are faster on this machine: a table on low rank's page, and a button that spares the others."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from engine.figures.latency import factored
from engine.figures.latency.factored import Row
from engine.figures.latency.stopwatch import Pace
from engine.types import SlimscopeError
from pages.parts import cached, figures, knobs
from pages.parts.figures import Column, caption
from pages.parts.live import Scene

TITLE = "Is each split layer faster here?"
COLUMNS = {
    "layer": Column("layer"),
    "ranks": Column("ranks"),
    "fewer": Column("times fewer MACs", "times"),
    "before": Column("before", "ms"),
    "after": Column("split", "ms"),
    "faster": Column("times as fast", "times"),
    "quartiles": Column("quartiles"),
    "verdict": Column("the split"),
}
VERDICTS = {Pace.FASTER: "pays", Pace.SLOWER: "costs time", Pace.TIE: "is a tie"}


def draw(scene: Scene) -> None:
    """The table for the ranks that the page was drawn with, once it is asked for."""
    table = scene.report.tables["layers"]
    split = table[table["applied"]]
    if scene.large or not scene.before.arch.runs:
        st.html(caption("Layers are timed of models that are held in memory and can run."))
        return
    if split.empty:
        st.html(caption("No layer is split at these settings."))
        return
    try:
        takes = max(1.0, factored.seconds(scene.before, scene.after))
        label = f"Measure the time (about {takes:.0f} s)"
        help = "Runs each split layer and the layer before many times, in turns: medians and quartiles."
        if st.toggle(label, key="time-ranks", help=help):
            _measured(scene, split)
    except SlimscopeError as error:
        st.html(caption(f"{error}."))


def _measured(scene: Scene, split: pd.DataFrame) -> None:
    labels = split["layer"].tolist()
    question = f"factored {scene.subject} {scene.key} {scene.after.fingerprint} {labels}"
    with st.spinner("Timing each layer ..."):
        answer = cached.answer(question, lambda: {"rows": factored.timed(scene.before, scene.after, labels)})
    rows: tuple[Row, ...] = () if answer is None else answer["rows"]
    ranks = dict(zip(split["layer"], map(_ranks, split.to_dict("records")), strict=True))
    st.html(figures.table(pd.DataFrame([_row(row, ranks[row.layer]) for row in rows]), COLUMNS, scene.layer))
    st.html(caption(f"{said(rows)} Each time is the {rows[0].times.now.how}."))
    slow = [row.layer for row in rows if not row.pays]
    whole = sorted({*scene.step.settings["leave_out"], *slow})
    st.button(
        "Leave whole what is not faster",
        key="spare-slow",
        on_click=knobs.change,
        args=("low_rank",),
        kwargs={"leave_out": whole},
        disabled=not slow,
        icon=":material/timer:",
        help="Adds these layers to Leave out, under Layer by layer; the recipe then says so, and no clock decides.",
    )


def _row(row: Row, ranks: str) -> dict[str, Any]:
    assert row.times.ratio.spread is not None
    low, high = row.times.ratio.spread
    return {
        "layer": row.layer,
        "ranks": ranks,
        "fewer": row.fewer.value,
        "before": row.times.before.value,
        "after": row.times.now.value,
        "faster": row.times.ratio.value,
        "quartiles": f"{low:.2f} to {high:.2f}",
        "verdict": VERDICTS[row.times.pace],
    }


def _ranks(row: dict[str, Any]) -> str:
    second = row.get("input_rank")
    return f"{row['rank']:.0f}" if second is None or pd.isna(second) else f"{row['rank']:.0f}, {second:.0f}"


def said(rows: tuple[Row, ...]) -> str:
    """How many splits pay, and the one that falls shortest of its multiply-adds."""
    worst = max(rows, key=lambda row: row.fewer.value / row.times.ratio.value)
    return (
        f"{sum(row.pays for row in rows)} of {len(rows)} splits pay in time. {worst.layer} does "
        f"{worst.fewer.value:.2f} times fewer multiply-adds and is {worst.times.ratio.value:.2f} times as fast: "
        f"{worst.calls} calls stand in the place of one, and what passes between them is written and read again."
    )
