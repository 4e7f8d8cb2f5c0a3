"""The first split of the damage: what rounding costs with weights only, inputs of layers only, and both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from engine.figures import scores
from pages.parts import charts, figures, jobs, knobs, visitor
from pages.parts.fold import fold

TITLE = "Split of the damage"
WEIGHTS, INPUTS, BOTH, NEITHER = "weights only", "activations only", "both", "original"
CHANGE = ("change_low", "change_high")
COLUMNS = {
    "rounded": figures.Column("rounded"),
    "accuracy": figures.Column("accuracy", "share", charts.KEPT),
    "change": figures.Column("change in points", "points", span=CHANGE),
}
OF_PERPLEXITY = {
    "rounded": COLUMNS["rounded"],
    "perplexity": figures.Column("perplexity", "perplexity"),
    "change": figures.Column("change", "relative", span=CHANGE),
}


def section(name: str) -> None:
    fold("Weights or activations: which costs the accuracy?", "damage-split", partial(_inside, name))


def rows_of(series: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of a sweep by what was rounded, as they came: columns COLUMNS and CHANGE.

    >>> row = {"accuracy": 0.9, "change": 0.0, "change_low": 0.0, "change_high": 0.0}
    >>> rows_of([{**row, "activations": "static", "round_weights": False}])["rounded"].tolist()
    ['activations only']
    """
    found: dict[str, dict[str, Any]] = {}
    for row in series:
        if row["accuracy"] is None:  # it was refused
            continue
        if row.get("baseline"):
            what = NEITHER
        elif row["activations"] == "none":  # then weights are rounded, whatever the other setting says
            what = WEIGHTS
        else:
            what = BOTH if row["round_weights"] else INPUTS
        found[what] = {**row, "rounded": what}
    return pd.DataFrame(found.values(), columns=[*COLUMNS, *CHANGE])


def _inside(name: str) -> None:
    if visitor.why_idle():
        st.caption(visitor.why_idle())
        return
    now = knobs.current(name).settings
    mode = "static" if now["activations"] == "none" else now["activations"]
    recipe = knobs.through(name)
    vary = {"activations": ["none", mode], "round_weights": [False, True]}
    payload = {"recipe": recipe.key, "step": len(recipe), "vary": vary}
    job = jobs.latest("sweep", **payload)
    bits = f"weights in {now['bits']} bits, activations {mode} in {now['activation_bits']} bits"
    st.caption(
        f"With the settings above ({bits}), on validation samples; change in points or in per cent of perplexity, "
        "against the original model on the same samples, with its 95 % interval."
    )
    if job is None or not job.open:
        st.button(
            "Measure weights, activations and both" if job is None else "Measure again",
            key=f"split-{name}",
            on_click=jobs.submit,
            args=("sweep", TITLE),
            kwargs=payload,
            icon=":material/call_split:",
            help="Rounds only weights, only what enters layers, and both, and measures each model.",
        )
    if job is not None:
        jobs.watch(job.id, lambda now: st.html(_table(rows_of(now.series))))


def _table(rows: pd.DataFrame) -> str:
    if not len(rows) or not scores.is_loss(rows["accuracy"].iloc[0]):
        return figures.table(rows, COLUMNS) if len(rows) else ""
    told = pd.DataFrame([scores.readable(row) for row in rows.to_dict("records")])
    return figures.table(told, OF_PERPLEXITY)
