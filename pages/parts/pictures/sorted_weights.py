"""A layer's weights sorted by size, with the cut: what lies left of it goes; both ends of the cut can be dragged."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from engine.recipe import technique
from engine.recipe.knobs import Slider
from engine.tensor import precompute, ranking
from pages.parts import cached, charts, figures
from pages.parts.live import Marks, Scene

CHART, HISTOGRAM = "sorted", "weights"
POINTS = 200  # of the curve
STEP = "prune_weights"


def draw(scene: Scene) -> None:
    st.subheader("Sorted by size: flat, then steep", anchor=False)
    index = scene.index((scene.layer,))
    curve = ranking.sorted_sizes(index, POINTS)
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": curve["share"].tolist(),
        "y": curve["size"].tolist(),
        "line": {"color": charts.KEPT, "width": 2},
        "hovertemplate": "%{x:.1%} of the weights are not larger than %{y:.4g}<extra></extra>",
    }
    figure = charts.chart(
        [line],
        "share of the weights, smallest first",
        "size |w|",
        xaxis={"tickformat": ".0%", "range": [0, 1]},
        yaxis={"rangemode": "tozero"},
    )
    alt = f"Sizes of the weights of {scene.layer}, sorted; those left of the cut go"
    st.plotly_chart(figure, key=CHART, config={"displayModeBar": False}, alt=alt)


def marks(threshold: float, sparsity: float) -> Marks:
    """The band of what goes, over the histogram and over the sorted sizes, with a handle at its edge."""
    band, grip = {"kind": "band", "colour": charts.REMOVED}, {"kind": "handle", "colour": charts.REMOVED}
    share = figures.text(sparsity, "share")
    return {
        HISTOGRAM: [
            {**band, "from": -threshold, "to": threshold, "text": f"{share} removed"},
            {**grip, "at": threshold},
        ],
        CHART: [
            {**band, "from": 0, "to": sparsity, "text": f"{share} are not above {threshold:.3g}"},
            {**grip, "at": sparsity},
        ],
    }


def slider(scene: Scene) -> str | None:
    """The setting whose slider moves the cut of this layer; None where something else decides."""
    settings = scene.step.settings
    if not ranking.by_threshold(settings) or scene.layer in (*settings["leave_out"], *settings["per_layer"]):
        return None
    return str(settings["by"])


def stops_of(scene: Scene, setting: str) -> list[Any]:
    knob = technique.get(STEP).knobs[setting]
    assert isinstance(knob, Slider)
    return knob.stops(scene.before)


def removals(scene: Scene, setting: str, stops: list[Any]) -> pd.DataFrame:
    """What is removed of the layer at each stop (`precompute.removals`)."""
    settings = scene.step.settings
    together = [x for x in scene.labels if x not in (*settings["leave_out"], *settings["per_layer"])]
    ranked = (scene.layer,) if settings["allocation"] == "layer" else tuple(together)
    layer = scene.index((scene.layer,))
    return precompute.removals(layer, scene.index(ranked), setting, stops, ranking.deviation(layer))


def with_places(scene: Scene, drawn: Marks) -> Marks:
    """The marks with where their handles may go; without handles where no slider moves the cut."""
    setting = slider(scene)
    if setting is None:
        return {chart: [mark for mark in some if mark["kind"] != "handle"] for chart, some in drawn.items()}
    stops = stops_of(scene, setting)
    others = {name: value for name, value in scene.step.settings.items() if name != setting}
    question = f"sorted {scene.subject} {scene.key} {scene.layer} {setting} {others}"
    table = cached.answer(question, lambda: removals(scene, setting, stops).to_dict("list"))
    assert table is not None
    settings = [{setting: stop} for stop in stops]
    xs = {HISTOGRAM: table["threshold"], CHART: table["sparsity"]}
    return {
        chart: [{**m, "xs": xs[chart], "settings": settings} if m["kind"] == "handle" else m for m in some]
        for chart, some in drawn.items()
    }
