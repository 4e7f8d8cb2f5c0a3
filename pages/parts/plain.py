"""The page of a technique that has no file of its own: its controls, what it does to a layer, what it reports."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.figures import count
from engine.recipe import technique
from pages.parts import charts, figures, footer, frame, jobs, session, training, weight_maps
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Scene, Update
from pages.parts.pictures import legend, of_tensor

BINS, TALL = 160, 100  # bars and pixels of the histogram after the step
MOST_LINES = 256  # values after the step that are drawn each by itself
MOST_ROWS = 64  # of a table about one layer
COLUMNS = {  # of reports' tables, where they are more than their name says
    "sparsity": figures.Column("sparsity", "share"),
    "energy_kept": figures.Column("energy kept", "share"),
    "error_gptq": figures.Column("error, GPTQ", "share"),
    "error_sparse_gpt": figures.Column("error, SparseGPT", "share"),
    "other_level": figures.Column("at another level", "share"),
    "table_share": figures.Column("share of the table", "share"),
    "precision_before": figures.Column("precision before", "share"),
    "precision_after": figures.Column("precision after", "share"),
    "bits_per_weight": figures.Column("bits per weight", "bits"),
    "sqnr_db": figures.Column("signal to noise", "dB"),
    "mse": figures.Column("mean squared error"),
    "macs_before": figures.Column("MACs before", "MAC"),
    "macs_after": figures.Column("MACs after", "MAC"),
}
COLOURS = ("#f2f2f2", charts.ORIGINAL, charts.KEPT, "#08306b")  # nothing, before alone, after alone, both


def draw(name: str) -> None:
    """Lay out the page of a technique, whatever it is."""
    known = technique.get(name)
    frame.heading(known.title, known.about, known.reference)
    if not known.trains:
        frame.workbench(name, hero, update, lambda scene, setting, stops: None, deeper, may_leave=True)
        return
    subject = session.subject()
    frame.header(subject)
    report = training.side_by_side(name) if training.suits(name) else None
    st.html(Lesson(known.aha, known.trap).html())
    tabs = footer.tabs()
    with tabs[0]:
        if "layers" not in known.tables:
            st.caption("What a training says stands beside its settings when it has ended.")
        else:
            st.subheader("Layer by layer", anchor=False)
            if report is not None and "layers" in report.tables:
                st.html(table(report.tables["layers"]))
            else:
                st.caption("What a training says of each layer stands here when it has ended.")
    footer.draw(tabs, subject)
    jobs.wake()


def hero(scene: Scene, place: Place) -> None:
    st.subheader("Weights, and values after", anchor=False)
    st.plotly_chart(
        charts.histogram(scene.weight, scene.layer),
        key="weights",
        config={"displayModeBar": False},
        alt=f"Histogram of the weights of {scene.layer} before the step, and over it the values after it",
    )


def deeper(scene: Scene, place: Place) -> None:
    st.subheader("Weights before and after, over one another", anchor=False)
    place("after")
    st.html(legend((COLOURS[1], "before"), (COLOURS[2], "after"), (COLOURS[3], "both")))
    st.subheader("What the step reports", anchor=False)
    place("figures")
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    place("more")


def update(scene: Scene) -> Update:
    after = dict(count.weights(scene.after)).get(scene.layer)
    words = f"{scene.layer} is not one weight any more: the step has put others in its place."
    picture = figures.notice(words) if after is None else compared(scene.weight, after, scene.layer)
    known = technique.get(scene.step.technique)
    html = {"after": picture, "figures": reported(scene), "layers": _layers(scene), "more": _more(scene)}
    marks = [] if after is None else [values_after(scene.weight, after)]
    return Update({"weights": marks}, html, Lesson(known.aha, known.trap))


def reported(scene: Scene) -> str:
    """The step's own figures as tiles."""
    return figures.tiles(
        figures.Tile(figures.titled(f.name), f, figures.said(f)) for f in scene.report.figures
    )


def values_after(before: Tensor, after: Tensor) -> dict[str, Any]:
    """A mark over the histogram of `before`: a line for each value after, or bars where there are many."""
    values = torch.unique(after)
    if len(values) <= MOST_LINES:
        return {"kind": "levels", "at": values.tolist(), "colour": charts.CHANGED}
    counts, edges = charts.counted(after, charts.reach(before))
    kept = counts > 0
    return {
        "kind": "bars",
        "at": ((edges[:-1] + edges[1:]) / 2)[kept].tolist(),
        "wide": float(edges[1] - edges[0]),
        "heights": counts[kept].tolist(),
        "colour": charts.CHANGED,
    }


def compared(before: Tensor, after: Tensor, layer: str) -> str:
    """Both histograms in one picture, over the range of both; heights are logarithmic, since zeros are many."""
    values = [weight.flatten().double().numpy() for weight in (before, after)]
    ends = (float(min(v.min() for v in values)), float(max(v.max() for v in values)))
    bars = [_heights(v, ends) for v in values]
    filled = [np.arange(TALL, 0, -1)[:, None] <= height[None, :] for height in bars]
    numbers = (filled[0] + 2 * filled[1]).astype(np.uint8)
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS], np.uint8)
    shown = of_tensor(
        weight_maps.Picture(numbers, palette), f"Weights of {layer} before and after the step", 240
    )
    return shown + figures.caption(f"From {ends[0]:.4g} to {ends[1]:.4g}; heights are logarithms of counts.")


def _heights(values: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    """The height of each bar in pixels; one with a value in it is at least one pixel tall."""
    counts = np.log1p(np.histogram(values, BINS, ends)[0])
    return np.asarray(np.ceil(TALL * counts / counts.max()))


def _layers(scene: Scene) -> str:
    """The report's own table of layers, or what became of each layer's weights."""
    rows = scene.report.tables.get("layers")
    if rows is None:
        rows = pd.DataFrame([_row(scene, layer, weight) for layer, weight in count.weights(scene.before)])
    return table(rows, scene.layer)


def _more(scene: Scene) -> str:
    """What other tables of the report say of the chosen layer."""
    parts = []
    for name, whole in scene.report.tables.items():
        rows = whole[whole["layer"] == scene.layer] if name != "layers" and "layer" in whole else whole[:0]
        if len(rows):
            first = f", the first {MOST_ROWS} of {len(rows):,}" if len(rows) > MOST_ROWS else ""
            parts.append(f"<p><b>{escape(f'{figures.titled(name)} of {scene.layer}{first}')}</b></p>")
            parts.append(table(rows[:MOST_ROWS]))
    return "".join(parts)


def table(rows: pd.DataFrame, layer: str = "") -> str:
    """All columns under their names in words; the row of `layer` is marked."""
    return figures.table(rows, {name: column(str(name)) for name in rows}, layer)


def column(name: str) -> figures.Column:
    """How a column of a report is written.

    >>> column("error_gptq"), column("levels_used")
    (Column(title='error, GPTQ', unit='share', bar='', span=None), Column(title='levels used', unit='', bar='', span=None))
    """
    if name in COLUMNS:
        return COLUMNS[name]
    is_error = name.startswith(("error_", "output_error"))
    words = name.replace("error_", "error, ", 1) if name.startswith("error_") else name
    return figures.Column(words.replace("_", " "), "share" if is_error else "")


def _row(scene: Scene, layer: str, weight: Tensor) -> dict[str, Any]:
    after = dict(count.weights(scene.after)).get(layer)
    left = "replaced" if after is None else int(after.count_nonzero())
    return {
        "layer": layer,
        "weights": weight.numel(),
        "non-zero before": int(weight.count_nonzero()),
        "after": left,
    }
