"""Tucker's error at all pairs of ranks as a map, with the line beyond which nothing is saved."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.tensor import tucker
from engine.tensor.splits import Ranks, Triple
from pages.parts import charts
from pages.parts.charts import Chart

MOST = 64  # ranks of a side that are drawn, of however many
KEY = "surface"
# From no error, in the full colour of what is kept, to one as large as the weights.
SCALE = [[0, "rgba(47,143,207,1)"], [1, "rgba(47,143,207,0.04)"]]


def drawn(split: Triple) -> Chart:
    """The relative error at each pair of ranks: inputs to the right, outputs upwards."""
    up, across = (_some(most) for most in split.full)
    kept = split.parts.kept.numpy()[np.ix_(up - 1, across - 1)]
    error = np.sqrt(np.maximum(1 - kept, 0.0))
    cells = {
        "type": "heatmap",
        "x": across.tolist(),
        "y": up.tolist(),
        "z": error.round(4).tolist(),
        "customdata": split.table[np.ix_(up - 1, across - 1)].tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": SCALE,
        "colorbar": {"title": {"text": "error"}, "thickness": 10, "outlinewidth": 0},
        "hovertemplate": "ranks %{y} and %{x}: error %{z:.3f}, %{customdata:,} weights<extra></extra>",
    }
    sides = [
        {"range": [0.5, most + 0.5], **({"dtick": 1} if most < 10 else {})} for most in reversed(split.full)
    ]
    line = _even(split)
    words = [_name(line["x"], line["y"])] if line["x"] else []
    titles = ("rank of the inputs", "rank of the outputs")
    return charts.chart([cells, line], *titles, xaxis=sides[0], yaxis=sides[1], annotations=words)


def _name(xs: list[float], ys: list[float]) -> Chart:
    """The line's name, at its left end."""
    where = {"x": xs[0], "y": ys[0], "xanchor": "left", "yshift": 10}
    return {**where, "text": "break-even", "showarrow": False, "font": {"color": charts.REMOVED}}


def _some(most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ranks from 1 to the last, at most MOST of them, evenly spaced."""
    return np.unique(np.linspace(1, most, min(most, MOST)).round().astype(np.int64))


def _even(split: Triple) -> Chart:
    """Where three layers have as many weights as the one, as far as there are such ranks."""
    inputs = np.linspace(0.5, split.full[1] + 0.5, 80)
    outputs = [tucker.break_even(split.shape, own) for own in inputs]
    within = [(x, y) for x, y in zip(inputs, outputs, strict=True) if 0.5 <= y <= split.full[0] + 0.5]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for x, _ in within],
        "y": [y for _, y in within],
        "line": {"color": charts.REMOVED, "width": 2, "dash": "dash"},
        "hoverinfo": "skip",
    }


def mark(split: Triple, ranks: Ranks, layer: str) -> dict[str, Any]:
    """The present point, what it costs, and which settings of the layer it stands for when it is dragged."""
    weights, whole = split.weights(ranks), math.prod(split.shape)
    saves = weights < whole
    words = (
        f"error {split.error(ranks):.3f}, {weights / whole:.0%} of the weights"
        if saves
        else "no smaller, not split"
    )
    return {
        "kind": "dot",
        "x": ranks[1],
        "y": ranks[0],
        "colour": charts.CHANGED if saves else charts.REMOVED,
        "text": f"ranks {ranks[0]} and {ranks[1]}: {words}",
        "below": ranks[0] > 0.8 * split.full[0],
        "full": split.full,
        "layer": layer,
        "tables": ("per_layer", "input_ranks"),
    }


def said(split: Triple, ranks: Ranks) -> str:
    """The weights of the three layers, one by one, and of the one that they replace."""
    (wide, narrow, kh, kw), (outputs, inputs) = split.shape, ranks
    whole, three = wide * narrow * kh * kw, split.weights(ranks)
    parts = f"{narrow:,} x {inputs:,} + {inputs:,} x {outputs:,} x {kh} x {kw} + {outputs:,} x {wide:,} = {three:,}"
    more = f"bigger by {three - whole:,}" if three > whole else f"{three / whole:.1%} of it"
    return f"{wide:,} x {narrow:,} x {kh} x {kw} weights = {whole:,}. Three layers: {parts}, {more}."
