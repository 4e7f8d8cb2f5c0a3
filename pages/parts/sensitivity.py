"""Sensitivity: one layer at a time is compressed, the others stay; a background job per technique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from engine.figures import scores
from engine.recipe import sweep, technique
from pages.parts import charts, jobs, knobs, spoken, visitor
from pages.parts.fold import fold

ALONE, ALL_BUT = "one layer", "all but one"
BEARABLE = (0.005, 0.01, 0.02, 0.05)  # of accuracy


def section(name: str, setting: str, values: list[float], unit: str, layers: list[str] | None = None) -> None:
    """A fold with a sensitivity scan on validation samples, and what it is good for.

    `values` stand from gentle to harsh; `layers` are those that are scanned, all unless told.
    """
    inside = partial(_inside, name, setting, values, unit, layers)
    fold("Which layers are sensitive?", "sensitivity", inside)


def _inside(name: str, setting: str, values: list[float], unit: str, layers: list[str] | None) -> None:
    if visitor.why_idle():
        st.caption(visitor.why_idle())
        return
    around = st.segmented_control(
        "Compress",
        (ALONE, ALL_BUT),
        default=ALONE,
        key=f"around-{name}",
        required=True,
        help="One layer shows what it costs by itself; all but one shows what sparing it would win back.",
    )
    payload = {
        "recipe": knobs.before(name).key,
        "technique": name,
        "setting": setting,
        "values": values,
        "settings": {
            k: v
            for k, v in knobs.current(name).settings.items()
            if k not in ("leave_out", "per_layer", setting)
        },
        **({} if layers is None else {"layers": layers}),
        "all_but": around == ALL_BUT,
    }
    job = jobs.latest("sensitivity", **payload)
    if job is None or not job.open:
        st.button(
            ("Scan each layer by itself" if around == ALONE else "Scan with each layer spared")
            if job is None
            else "Scan again",
            key=f"scan-{name}",
            on_click=jobs.submit,
            args=("sensitivity", f"Sensitivity to {setting}"),
            kwargs=payload,
            icon=":material/troubleshoot:",
            help="Compresses one layer at a time, or all others, and measures accuracy or perplexity on 1,000 validation samples, or all where there are fewer.",
        )
    if job is None:
        return

    def drawn(now: jobs.Job) -> None:
        rows = pd.DataFrame([dict(row) for row in now.series])
        if rows.empty:
            return
        rows = rows.dropna(subset=["accuracy"])
        is_loss = bool(len(rows)) and scores.is_loss(rows["accuracy"].iloc[0])
        figure = charts.lines(
            rows,
            "value",
            "accuracy",
            "layer",
            titles=(
                unit,
                "minus the loss per token on validation, in nat" if is_loss else "accuracy on validation",
            ),
            error=("low", "high"),
            percent=not is_loss,
        )
        st.plotly_chart(
            figure,
            key=f"scan-chart-{name}",
            alt="Accuracy of the model when one layer is compressed, or all but one, per layer",
        )
        with st.expander("The same as a table"):
            told = pd.DataFrame([scores.readable(row) for row in rows.to_dict("records")])
            st.dataframe(told, hide_index=True, key=f"scan-table-{name}")

    jobs.watch(job.id, drawn)
    if job.state == "done" and around == ALONE:
        rows = [row for row in job.series if "change" in row]
        allocation(name, setting, rows, sweep.tolerated(rows, values, bearable()))


def bearable() -> float:
    """How much accuracy a layer may cost."""
    return st.segmented_control(
        "Each layer alone may cost",
        BEARABLE,
        default=BEARABLE[1],
        format_func=lambda share: "1 point" if share == 0.01 else f"{100 * share:g} points",
        key="bearable",
        required=True,
        help="Of accuracy on the same validation samples; of a language model a point is 1 % of perplexity. Together the layers cost more than each alone.",
    )


def allocation(name: str, setting: str, rows: Sequence[Mapping[str, Any]], own: dict[str, float]) -> None:
    """What each layer tolerates, and a button that sets it; layers that tolerate nothing are left out."""
    wanted = {
        "per_layer": own,
        "leave_out": list({row["layer"]: None for row in rows if row["layer"] not in own}),
    }
    now, knob = knobs.current(name).settings, technique.get(name).knobs[setting]
    st.button(
        "Set each layer to what it tolerates",
        key=f"allocate-{name}",
        on_click=knobs.change,
        args=(name,),
        kwargs=wanted,
        disabled=all(now[key] == value for key, value in wanted.items()),
        icon=":material/tune:",
        help="Sets each layer's own value, under Layer by layer; the slider is for layers without one.",
    )
    words = [f"{layer} {spoken.written(knob, value)}" for layer, value in own.items()]
    st.caption(", ".join([*words, *(f"{layer} left out" for layer in wanted["leave_out"])]))
