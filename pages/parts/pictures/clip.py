"""Round-off against clipping: what each clip of one scale costs, and a handle that moves the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from engine.tensor.affine import code_range
from engine.tensor.clip_curve import clip_at, clip_curve
from engine.tensor.formats import AffineGrid
from engine.tensor.index import Index
from engine.tensor.sorted_index import SortedIndex
from pages.parts import charts
from pages.parts.figures import caption
from pages.parts.live import Scene
from pages.parts.pictures import legend

CHART = "clip"
MOST_BITS = 8  # with more, round-off lies below the chart wherever the clip is
LEAST_ERROR = 1e-5  # at the foot of the chart, as a share of the sum of squares
LEAST_INSIDE = 95.0  # of the setting `percentile`
COLOURS = {"roundoff": charts.KEPT, "clipping": charts.REMOVED, "both": charts.CHANGED}


def draw() -> None:
    st.subheader("Round-off or clipping", anchor=False)
    axes = charts.plane("clip, share of the range", "squared error, share", (0.0, 1.03))
    axes["layout"]["yaxis"] |= {
        "type": "log",
        "range": [np.log10(LEAST_ERROR), 0.1],
        "exponentformat": "power",
    }
    axes["layout"]["xaxis"] |= {"tickformat": ".0%"}
    st.plotly_chart(
        axes, key=CHART, config={"displayModeBar": False}, alt="Squared error of one scale against its clip"
    )
    words = {"roundoff": "round-off", "clipping": "clipping", "both": "both"}
    st.html(legend(*((COLOURS[name], word) for name, word in words.items())))


def is_symmetric(scene: Scene) -> bool:
    return bool(scene.step.settings["scheme"] == "symmetric")


def is_sign(scene: Scene, grid: AffineGrid) -> bool:
    return grid.bits == 1 and is_symmetric(scene)


def shown(scene: Scene, grid: AffineGrid) -> int:
    """The scale that is drawn: the largest weight's, whatever the clip."""
    return grid.granularity.of_largest(scene.weight) if len(grid.scale) > 1 else 0


def weights_of(scene: Scene, grid: AffineGrid) -> Index:
    """The weights that share the scale that is drawn."""
    if len(grid.scale) == 1:
        return scene.index((scene.layer,))
    return SortedIndex(grid.granularity.members(scene.weight, shown(scene, grid)))


def clip_of(scene: Scene, grid: AffineGrid, index: Index) -> float:
    """Its clip as a share of its range."""
    bottom, top = code_range(grid.bits, is_symmetric(scene))
    span = float(grid.scale[shown(scene, grid)]) * (top - bottom)
    low, high = min(index.least, 0.0), max(index.largest, 0.0)
    return min(span / ((2 * max(-low, high) if is_symmetric(scene) else high - low) or 1.0), 1.0)


def setting(inside: float) -> dict[str, Any]:
    """The setting that comes closest to a clip with this share of the weights inside.

    >>> setting(1.0), setting(0.9988), setting(0.5)["percentile"]
    ({'range': 'minmax'}, {'range': 'percentile', 'percentile': 99.9}, 95.0)
    """
    if inside >= 1:
        return {"range": "minmax"}
    return {"range": "percentile", "percentile": max(round(round(2000 * inside) / 20, 2), LEAST_INSIDE)}


@dataclass(frozen=True)
class Drawn:
    """The marks of the chart, the handle over a histogram of the same weights, and what they say as HTML."""

    marks: list[dict[str, Any]]
    handle: list[dict[str, Any]]
    words: str


def drawn(scene: Scene, grid: AffineGrid) -> Drawn:
    """The three curves, where the clip is, and the handle that moves it."""
    if is_sign(scene, grid):
        return Drawn([], [], caption("One bit keeps signs: its scale is a mean, and has no range to clip."))
    if grid.bits > MOST_BITS:
        return Drawn(
            [], [], caption(f"Drawn up to {MOST_BITS} bits: with more, round-off is too small to see.")
        )
    index = weights_of(scene, grid)
    curve = clip_curve(index, grid.bits, is_symmetric(scene))
    both, here = curve.assign(both=curve["roundoff"] + curve["clipping"]), clip_of(scene, grid, index)
    now = costs_at(scene, grid, index)
    best = both.iloc[int(both["both"].argmin())]
    words = f"clip at {here:.0%}: {_share(now['both'])} lost"
    marks = [
        *(_path(both, name) for name in COLOURS),
        {"kind": "dot", "hollow": True, "x": best["clip"], "y": best["both"], "colour": charts.CHANGED},
        {"kind": "dot", "x": here, "y": now["both"], "colour": charts.CHANGED, "text": words},
        handle(curve, here),
    ]
    right = max(-index.least, index.largest) if is_symmetric(scene) or index.largest <= 0 else index.largest
    largest = handle(curve, here, right)
    return Drawn(marks, [largest], caption(said(now, best, here)))


def costs_at(scene: Scene, grid: AffineGrid, index: Index) -> dict[str, float]:
    """What the scale that is drawn loses as it is: exact, also between the clips of the curve."""
    widest = shown(scene, grid)
    scale, zero = float(grid.scale[widest]), int(grid.zero[widest])
    roundoff, clipping = clip_at(index, scale, zero, grid.bits, is_symmetric(scene))
    return {"roundoff": roundoff, "clipping": clipping, "both": roundoff + clipping}


def _path(curve: pd.DataFrame, name: str) -> dict[str, Any]:
    drawn = curve[
        curve[name] > LEAST_ERROR / 100
    ]  # nothing is clipped at the end: a logarithm has no place for it
    return {"kind": "path", "xs": drawn["clip"].tolist(), "ys": drawn[name].tolist(), "colour": COLOURS[name]}


def handle(curve: pd.DataFrame, here: float, reach: float = 1.0) -> dict[str, Any]:
    """Where the clip can be dragged to, as shares of `reach`: each place with the nearest setting."""
    xs = (reach * curve["clip"]).tolist()
    settings = [setting(inside) for inside in curve["inside"]]
    return {"kind": "handle", "at": reach * here, "xs": xs, "settings": settings, "colour": charts.CHANGED}


def said(now: dict[str, float], best: pd.Series, here: float) -> str:
    """What the present clip costs, and where the least is."""
    least = (
        f"The least, {_share(best['both'])}, is at {best['clip']:.0%} (hollow): the range mse looks for it."
    )
    return (
        f"Of this scale's sum of squares, a clip at {here:.0%} of the range loses {_share(now['roundoff'])} by "
        f"round-off and {_share(now['clipping'])} by clipping. {least} Drag the handle: the panel takes the nearest "
        f"percentile, from {LEAST_INSIDE:g} on, for every scale."
    )


def _share(part: float) -> str:
    return f"{100 * part:.3g} %"
