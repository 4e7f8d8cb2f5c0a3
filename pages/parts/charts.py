"""DataFrame or tensor -> figure, as plain dictionaries; imports no streamlit.

Charts are lean and drawn once (`marks.js` moves things over them). Colours of data come from
here, everything else from the theme. A picture of a tensor is an RGB array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

KEPT, REMOVED, CHANGED, ORIGINAL = "#2f8fcf", "#d55e00", "#cc79a7", "#8c96a3"
SERIES = (KEPT, REMOVED, "#009e73", CHANGED, "#e69f00", "#56b4e9", "#8c96a3", "#7a5cc0")
Chart = dict[str, Any]
Rgb = NDArray[np.uint8]


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


def histogram(values: Tensor, name: str, bins: int = 160) -> Chart:
    """Weights over their value, exact zeros aside; zero is in the middle, so that a band around it fits."""
    flat = values.detach().flatten().numpy()
    flat = flat[flat != 0].astype(np.float64)  # the smallest 32-bit floats have no smaller ones between
    reach = float(np.abs(flat).max(initial=0.0)) or 1.0
    counts, edges = np.histogram(flat, bins, (-reach, reach))
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
        xaxis={"range": [-reach, reach]},
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


def falling(scales: pd.DataFrame, columns: Mapping[str, str], height: int = 280) -> Chart:
    """Sorted values of some columns, the largest first, and a line behind the rows that are kept."""
    ranks = list(range(1, len(scales) + 1))
    traces: list[Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ranks,
            "y": scales[column].sort_values(ascending=False).tolist(),
            "name": name,
            "line": {"color": SERIES[i], "width": 2, "dash": DASHES[i]},
        }
        for i, (column, name) in enumerate(columns.items())
    ]
    drawn = chart(traces, "channels, by rank", "size of the scale", height=height)
    drawn["layout"]["shapes"] = [upright(int(scales["kept"].sum()) + 0.5, REMOVED)]
    return drawn


def ranking(scores: list[float], names: list[int], x: str, y: str) -> Chart:
    """Bars of sorted scores at ranks 1, 2, ...; what stands at a rank is said under the pointer."""
    bars = {
        "type": "bar",
        "x": list(range(1, len(scores) + 1)),
        "y": scores,
        "customdata": names,
        "marker": {"color": KEPT},
        "hovertemplate": "number %{customdata}: %{y:.4g}<extra></extra>",
    }
    return chart([bars], x, y, xaxis={"range": [0.4, len(scores) + 0.6]}, yaxis={"rangemode": "tozero"})


def sizes(frame: pd.DataFrame, x: str, y: str, by: str, titles: tuple[str, str]) -> Chart:
    """|y| against |x| on logarithmic axes, one colour for each value of `by`, and the line of equal size.

    Points whose two signs differ are hollow; a zero has no place on such axes, and its point is left out.
    """
    frame = frame[(frame[x] != 0) & (frame[y] != 0)]
    both = frame[[x, y]].abs()
    ends = [float(both.min(axis=None)), float(both.max(axis=None))] if len(both) else []
    equal = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "line": {"color": ORIGINAL, "width": 1, "dash": "dot"},
        "name": "equal",
        "hoverinfo": "skip",
    }
    points = []
    for i, (name, part) in enumerate(frame.groupby(by, sort=False)):
        symbol = MARKERS[i % len(MARKERS)]
        signs = (part[x] > 0) == (part[y] > 0)
        points.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": part[x].abs().tolist(),
                "y": part[y].abs().tolist(),
                "customdata": part[[x, y]].to_numpy().tolist(),
                "hovertemplate": f"{name}: %{{customdata[1]:.3g}}, predicted %{{customdata[0]:.3g}}<extra></extra>",
                "marker": {
                    "size": 6,
                    "color": SERIES[i % len(SERIES)],
                    "symbol": [symbol if same else f"{symbol}-open" for same in signs],
                },
                "name": str(name),
            }
        )
    axis = {"type": "log", "exponentformat": "e"}
    many = {"showlegend": False} if len(points) > len(SERIES) else {}
    return chart([equal, *points], *titles, xaxis=axis, yaxis=dict(axis), **many)


MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
DASHES = ("solid", "dash", "dot")


ROOT = "(the file)"


def treemap(frame: pd.DataFrame) -> Chart:
    """Where the bytes are: one tile per tensor, grouped by layer; columns layer, part, bytes.

    Bytes of no layer are a tile of their own: without a name of its own Plotly takes it for the root's parent.
    """
    nameless = frame["layer"] == ""
    frame = frame.assign(
        layer=frame["layer"].mask(nameless, "file " + frame["part"]), part=frame["part"].mask(nameless, "")
    )
    layers = frame.groupby("layer", sort=False)["bytes"].sum()
    leaves = frame[frame["part"] != ""]
    ids = [ROOT, *layers.index, *(f"{r.layer}/{r.part}" for r in leaves.itertuples())]
    trace = {
        "type": "treemap",
        "ids": ids,
        "labels": ["all", *layers.index, *leaves["part"]],
        "parents": ["", *[ROOT] * len(layers), *leaves["layer"]],
        "values": [int(layers.sum()), *layers.tolist(), *leaves["bytes"].tolist()],
        "branchvalues": "total",
        "texttemplate": "%{label}<br>%{value:,} B<br>%{percentRoot:.1%}",
        "hovertemplate": "%{id}: %{value:,} bytes, %{percentRoot:.2%}<extra></extra>",
        "marker": {"colors": ["rgba(0,0,0,0)", *(SERIES[i % len(SERIES)] for i in range(len(layers)))]},
        "tiling": {"packing": "squarify"},
        "textfont": {"size": 13},
    }
    figure = chart([trace], "", "", height=320)
    figure["layout"]["margin"] = {"l": 0, "r": 0, "t": 4, "b": 0}
    return figure


MOST_VALUES = 1 << 18


def some(weight: Tensor, most: int = MOST_VALUES) -> Tensor:
    """Every k-th value of a large tensor, flat, so that there are at most `most`."""
    return weight.flatten()[:: -(-weight.numel() // most)]


def grid_of_histograms(tensors: list[tuple[str, Tensor]], bins: int = 80, columns: int = 4) -> Chart:
    """A small histogram per layer in one figure; counts on each layer's own scale."""
    rows = -(-len(tensors) // columns)
    traces, notes, axes = [], [], {}
    for i, (label, values) in enumerate(tensors):
        flat = values.detach().flatten().numpy()
        counts, edges = np.histogram(flat.astype(np.float64), bins)
        n = "" if i == 0 else str(i + 1)
        row, column = divmod(i, columns)
        left, top = column / columns, 1 - row / rows
        domain = (
            [left + 0.012, left + 1 / columns - 0.012],
            [top - 1 / rows + 0.24 / rows, top - 0.2 / rows],
        )
        axes[f"xaxis{n}"] = {"domain": domain[0], "anchor": f"y{n}", "nticks": 3, "zeroline": False}
        axes[f"yaxis{n}"] = {
            "domain": domain[1],
            "anchor": f"x{n}",
            "showticklabels": False,
            "zeroline": False,
        }
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": ((edges[1:] + edges[:-1]) / 2).astype(np.float32),
                "y": counts,
                "line": {"shape": "hvh", "width": 1, "color": KEPT},
                "fill": "tozeroy",
                "xaxis": f"x{n}",
                "yaxis": f"y{n}",
                "hovertemplate": f"{label}: %{{x:.4f}}, %{{y}} weights<extra></extra>",
            }
        )
        notes.append(
            {
                "text": label,
                "xref": "paper",
                "yref": "paper",
                "x": domain[0][0],
                "y": domain[1][1],
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12},
            }
        )
    layout = {
        "height": 60 + 130 * rows,
        "margin": {"l": 4, "r": 4, "t": 16, "b": 8},
        "showlegend": False,
        "annotations": notes,
        **axes,
    }
    return {"data": traces, "layout": layout}


def tradeoff(frame: pd.DataFrame, hover: list[str]) -> Chart:
    """Accuracy against real bytes: interval on every point, the front joined, dominated points pale."""
    front = frame[frame["pareto"]].sort_values("bytes")
    traces: list[Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": front["bytes"].tolist(),
            "y": front["accuracy"].tolist(),
            "line": {"color": KEPT, "width": 1.5, "shape": "hv"},
            "hoverinfo": "skip",
            "name": "Pareto front",
            "showlegend": False,
        }
    ]
    for best, name, colour, symbol in (
        (False, "dominated", ORIGINAL, "circle-open"),
        (True, "front", KEPT, "circle"),
    ):
        part = frame[frame["pareto"] == best]
        texts = [hover[i] for i in part.index]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": part["bytes"].tolist(),
                "y": part["accuracy"].tolist(),
                "customdata": part.index.tolist(),
                "text": texts,
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"size": 10, "color": colour, "symbol": symbol, "opacity": 1 if best else 0.6},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": (part["high"] - part["accuracy"]).tolist(),
                    "arrayminus": (part["accuracy"] - part["low"]).tolist(),
                    "thickness": 1,
                    "width": 3,
                    "color": colour,
                },
                "name": name,
            }
        )
    return chart(
        traces,
        "file size in bytes (measured)",
        "accuracy on validation (measured)",
        height=440,
        xaxis={"type": "log", "dtick": 0.30103, "tickformat": ".3~s"},
        yaxis={"tickformat": ".1%"},
    )


# ---------------------------------------------------------------- pictures of tensors


MOST_PIXELS = 600  # of a side of a picture


def as_picture(weight: Tensor, most: int = MOST_PIXELS) -> NDArray[np.float32]:
    """A weight as a 2-D array: matrices as they are, kernels as tiles (outputs down, inputs across).

    Where a side would pass `most` pixels, every k-th row, column or kernel is in it; a kernel is never cut,
    not even one that is larger by itself.
    """
    values = _in_rows(weight)
    down, across = _strides(values, most)
    values = values[::down, ::across]
    if values.ndim == 2:
        return values
    outputs, inputs, height, width = values.shape
    tiles = np.full((outputs, height + 1, inputs, width + 1), np.nan, np.float32)
    tiles[:, :height, :, :width] = values.transpose(0, 2, 1, 3)
    return tiles.reshape(outputs * (height + 1), inputs * (width + 1))[:-1, :-1]


def strides(weight: Tensor, most: int = MOST_PIXELS) -> tuple[int, int]:
    """Every how many-th row and column (of a matrix, or of kernels) is in its picture."""
    return _strides(_in_rows(weight), most)


def _strides(values: NDArray[np.float32], most: int) -> tuple[int, int]:
    tile = [side + 1 for side in values.shape[2:]] or [1, 1]
    down, across = (
        -(-count // max(1, most // side)) for count, side in zip(values.shape[:2], tile, strict=True)
    )
    return down, across


def _in_rows(weight: Tensor) -> NDArray[np.float32]:
    """A matrix, or kernels (down, across, height, width): where inputs are few they run on as text does."""
    values: NDArray[np.float32] = weight.detach().float().numpy()
    if values.ndim <= 2:
        return np.atleast_2d(values)
    if values.ndim != 4:  # kernels along a line, or in space: each as one row
        values = values.reshape(*values.shape[:2], 1, -1)
    outputs, inputs, height, width = values.shape
    if outputs * height > 3 * inputs * width:  # few inputs: the kernels in rows, as text runs
        across = min(outputs * inputs, max(1, round((outputs * inputs * height / width / 3) ** 0.5)) * 3)
        spare = -(outputs * inputs) % across
        flat = np.concatenate(
            [values.reshape(-1, 1, height, width), np.full((spare, 1, height, width), np.nan)]
        )
        values = flat.reshape(-1, across, height, width)
    return values


def _ramp(low: str, high: str, steps: int) -> Rgb:
    """`steps` colours from low to high, ends included: (steps, 3)."""
    ends = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (low, high)], np.float32)
    return (ends[0] + np.linspace(0, 1, steps)[:, None] * (ends[1] - ends[0])).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """Colour numbers (h, w) uint8 and what they mean (n, 3): a fraction of the bytes of full colour."""

    numbers: NDArray[np.uint8]
    palette: Rgb


GAP = (128, 128, 128)
KEPT_COLOURS = np.concatenate([[(250, 214, 184), GAP], _ramp("#a8d4f0", "#08457a", 14)]).astype(np.uint8)
SIGNED_COLOURS = np.concatenate(
    [_ramp("#b35806", "#ffffff", 32)[:-1], _ramp("#ffffff", "#08519c", 32), [GAP]]
).astype(np.uint8)


def kept_map(weight: Tensor, most: int = MOST_PIXELS) -> Picture:
    """Kept weights in blue, the stronger the darker; removed ones in pale orange; gaps in grey."""
    picture = as_picture(weight, most)
    strength = np.abs(picture)
    top = float(np.nanmax(strength)) or 1.0
    with np.errstate(invalid="ignore"):
        numbers = np.where(picture == 0, 0, 2 + np.nan_to_num(np.sqrt(strength / top)) * 13)
    numbers[np.isnan(picture)] = 1
    return Picture(numbers.astype(np.uint8), KEPT_COLOURS)


def signed_map(weight: Tensor, reach: float, most: int = MOST_PIXELS) -> Picture:
    """Values from -reach to reach: orange below zero, white at zero, blue above; gaps in grey."""
    picture = as_picture(weight, most)
    numbers = np.rint(31 + 31 * np.clip(np.nan_to_num(picture) / (reach or 1), -1, 1))
    numbers[np.isnan(picture)] = len(SIGNED_COLOURS) - 1
    return Picture(numbers.astype(np.uint8), SIGNED_COLOURS)


CLUSTERS = 253  # colours; tables with more entries share some
CLUSTER_COLOURS = np.concatenate(
    [
        [GAP, (255, 255, 255)],
        *(
            _ramp(low, high, 64)
            for low, high in (
                ("#2b0a5e", "#0a6aa8"),
                ("#0a6aa8", "#12a594"),
                ("#12a594", "#f0c52a"),
                ("#f0c52a", "#b3261e"),
            )
        ),
    ]
)[: CLUSTERS + 2].astype(np.uint8)


def cluster_colour(entry: int, entries: int) -> int:
    """The colour number of an entry, evenly from the first colour to the last."""
    return 2 + round(entry * (CLUSTERS - 1) / max(entries - 1, 1))


def cluster_map(numbers: Tensor, entries: int, most: int = MOST_PIXELS) -> Picture:
    """A colour for each entry (numbers 0..entries - 1); white where the number is -1; gaps in grey."""
    picture = as_picture(numbers, most)
    filled = np.nan_to_num(picture)
    colours = np.where(filled < 0, 1, 2 + np.rint(filled * (CLUSTERS - 1) / max(entries - 1, 1)))
    return Picture(np.where(np.isnan(picture), 0, colours).astype(np.uint8), CLUSTER_COLOURS)


# ---------------------------------------------------------------- ranks


def ranked(values: Tensor) -> pd.DataFrame:
    """Singular values with their place: columns rank, value."""
    return pd.DataFrame({"rank": range(1, len(values) + 1), "value": values.numpy()})


def against_rank(counts: list[int], whole: int) -> Chart:
    """Weights of the two thin layers at each rank, and those of the layer that they replace."""
    ranks = list(range(1, len(counts) + 1))
    traces: list[Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ranks,
            "y": counts,
            "line": {"color": KEPT, "width": 2},
            "name": "two thin layers",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": [1, len(counts)],
            "y": [whole, whole],
            "line": {"color": ORIGINAL, "width": 2, "dash": "dash"},
            "name": "original",
        },
    ]
    return chart(traces, "rank", "weights")


def standalone(figure: Chart) -> str:
    """A figure as one HTML file with everything in it."""
    import plotly.graph_objects as go  # here: it takes 0.3 s, and only a download needs it

    return str(go.Figure(figure).to_html(include_plotlyjs=True))
