"""Charts of a whole model: where its bytes are, each layer's weights, and the trade-offs that were swept."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from engine.figures import scores
from pages.parts import curve_chart
from pages.parts.charts import KEPT, ORIGINAL, SERIES, Chart, chart

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


LONG = 18  # letters of a name, above which three stand side by side and not four


def grid_of_histograms(tensors: list[tuple[str, Tensor]], bins: int = 80) -> Chart:
    """A small histogram per layer in one figure; counts on each layer's own scale."""
    columns = 3 if max(len(label) for label, _ in tensors) > LONG else 4
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
        f"{curve_chart.what(frame.to_dict('records'))} on validation (measured)",
        height=440,
        xaxis={"type": "log", "dtick": 0.30103, "tickformat": ".3~s"},
        yaxis=_scores(frame),
    )


def _scores(frame: pd.DataFrame) -> Chart:
    """The axis of accuracies; of perplexities as wide as the points."""
    if not scores.is_loss(frame["accuracy"].iloc[0]):
        return {"tickformat": ".1%"}
    low, high = float(frame["low"].min()), float(frame["high"].max())
    room = (high - low) / 20 + 1e-3
    return curve_chart.upright((low - room, high + room))
