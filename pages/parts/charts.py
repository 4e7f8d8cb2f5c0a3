"""DataFrame or tensor -> figure, as plain dictionaries; imports no streamlit.

Charts are lean and drawn once (`marks.js` moves things over them). Colours of data come from
here, everything else from the theme. A picture of a tensor is an RGB array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

KEPT, REMOVED, CHANGED, ORIGINAL = "#2f8fcf", "#d55e00", "#cc79a7", "#8c96a3"
SERIES = (KEPT, REMOVED, "#009e73", CHANGED, "#e69f00", "#56b4e9", "#8c96a3", "#7a5cc0")
BINS = 160  # of a histogram of weights
Chart = dict[str, Any]


def chart(traces: list[Chart], x: str, y: str, height: int = 250, **layout: Any) -> Chart:
    """A figure with titled axes and nothing else: no template, tight margins."""
    axis = {"automargin": True, "zeroline": False}
    return {
        "data": traces,
        "layout": {
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
            "showlegend": sum("name" in t and t.get("showlegend", True) for t in traces) > 1,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": {**axis, "title": {"text": x}, **layout.pop("xaxis", {})},
            "yaxis": {**axis, "title": {"text": y}, **layout.pop("yaxis", {})},
            "hovermode": layout.pop("hovermode", "closest"),
            **layout,
        },
    }


def reach(values: Tensor) -> float:
    """How far from zero a histogram of these values goes."""
    return float(values.abs().max()) or 1.0


def counted(values: Tensor, end: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many values are in each of BINS from -end to end, exact zeros aside, and the bins' edges."""
    flat = values.detach().flatten().numpy()
    flat = flat[flat != 0].astype(np.float64)  # the smallest 32-bit floats have no smaller ones between
    return np.histogram(flat, BINS, (-end, end))


def histogram(values: Tensor, name: str) -> Chart:
    """Weights over their value; zero is in the middle, so that a band around it fits."""
    end = reach(values)
    counts, edges = counted(values, end)
    centres = (edges[:-1] + edges[1:]) / 2
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": centres.astype(np.float32),
        "y": counts,
        "line": {"shape": "hvh", "width": 1, "color": KEPT},
        "fill": "tozeroy",
        "name": name,
        "hovertemplate": "about %{x:.4f}: %{y} weights<extra></extra>",
    }
    return chart(
        [trace],
        "weight (exact zeros are not drawn)" if bool((values == 0).any()) else "weight",
        "weights",
        xaxis={"range": [-end, end]},
        yaxis={"rangemode": "tozero"},
    )


def intervals(rows: Sequence[Mapping[str, Any]], name: str, **look: Any) -> dict[str, Any]:
    """Bars from `low` to `high` of each row, around its value of this name.

    >>> intervals([{"share": 0.5, "low": 0.25, "high": 1.0}], "share", width=0)["array"]
    [0.5]
    """
    return {
        "type": "data",
        "symmetric": False,
        "array": [row["high"] - row[name] for row in rows],
        "arrayminus": [row[name] - row["low"] for row in rows],
        **look,
    }


def plane(x: str, y: str, reach: tuple[float, float], diagonal: bool = False) -> Chart:
    """An empty plane for marks; with `diagonal` the identity is a thin line (else it is invisible)."""
    low, high = reach
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [low, high],
        "y": [low, high],
        "line": {"color": ORIGINAL, "width": 1, "dash": "dot"},
        "opacity": 1 if diagonal else 0,
        "hoverinfo": "skip",
    }
    axes: dict[str, Any] = {"range": [low, high]}
    return chart([line], x, y, xaxis=dict(axes), yaxis=dict(axes))


def box(x: str, y: str, across: tuple[float, float], up: tuple[float, float]) -> Chart:
    """Empty axes for marks, with a little room around both ranges."""
    corners = {
        "type": "scatter",
        "mode": "markers",
        "x": list(across),
        "y": list(up),
        "opacity": 0,
        "hoverinfo": "skip",
    }
    room = [0.03 * (end[1] - end[0]) for end in (across, up)]
    return chart(
        [corners],
        x,
        y,
        235,
        xaxis={"range": [across[0] - room[0], across[1] + room[0]]},
        yaxis={"range": [up[0] - room[1], up[1] + room[1]], "tickformat": ".0%"},
    )


PERCENT = {"tickformat": ".1%", "minallowed": -0.02, "maxallowed": 1.02}


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: str | None = None,
    *,
    titles: tuple[str, str],
    error: tuple[str, str] | None = None,
    height: int = 280,
    percent: bool = False,
    at: float | None = None,
) -> Chart:
    """One line per value of `by`, with markers; `error` names the low and high columns of an interval.

    `at` is a place on the x axis with an upright line.
    """
    groups = [("", frame)] if by is None else list(frame.groupby(by, sort=False))
    traces: list[Chart] = []
    for i, (name, part) in enumerate(groups):
        colour = SERIES[i % len(SERIES)]
        trace: Chart = {
            "type": "scatter",
            "mode": "lines+markers",
            "x": part[x].tolist(),
            "y": part[y].tolist(),
            "line": {"color": colour, "width": 2, "dash": DASHES[i // len(SERIES) % 3]},
            "marker": {"size": 6, "color": colour, "symbol": MARKERS[i % len(MARKERS)]},
        }
        if by is not None:
            trace |= {"name": str(name), "showlegend": True}
        if error:
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": (part[error[1]] - part[y]).tolist(),
                "arrayminus": (part[y] - part[error[0]]).tolist(),
                "thickness": 1,
                "width": 2,
            }
        traces.append(trace)
    drawn = chart(traces, *titles, height=height, yaxis=dict(PERCENT) if percent else {})
    if at is not None:
        drawn["layout"]["shapes"] = [upright(at, CHANGED)]
    return drawn


def upright(at: float, colour: str) -> Chart:
    """A dotted line from the bottom of a chart to its top."""
    line = {"color": colour, "width": 2, "dash": "dot"}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line}


MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
DASHES = ("solid", "dash", "dot")


MOST_VALUES = 1 << 18


def some(weight: Tensor, most: int = MOST_VALUES) -> Tensor:
    """Every k-th value of a large tensor, flat, so that there are at most `most`."""
    return weight.flatten()[:: -(-weight.numel() // most)]


def standalone(figure: Chart) -> str:
    """A figure as one HTML file with everything in it."""
    import plotly.graph_objects as go  # here: it takes 0.3 s, and only a download needs it

    return str(go.Figure(figure).to_html(include_plotlyjs=True))
