"""Values by rank: scores, scales and singular values, and what a rank costs in weights."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from pages.parts import charts


def ranking(scores: list[float], names: list[int], x: str, y: str) -> charts.Chart:
    """Bars of sorted scores at ranks 1, 2, ...; what stands at a rank is said under the pointer."""
    bars = {
        "type": "bar",
        "x": list(range(1, len(scores) + 1)),
        "y": scores,
        "customdata": names,
        "marker": {"color": charts.KEPT},
        "hovertemplate": "number %{customdata}: %{y:.4g}<extra></extra>",
    }
    return charts.chart(
        [bars], x, y, xaxis={"range": [0.4, len(scores) + 0.6]}, yaxis={"rangemode": "tozero"}
    )


def falling(scales: pd.DataFrame, columns: Mapping[str, str], height: int = 280) -> charts.Chart:
    """Sorted values of some columns, the largest first, and a line behind the rows that are kept."""
    ranks = list(range(1, len(scales) + 1))
    traces: list[charts.Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ranks,
            "y": scales[column].sort_values(ascending=False).tolist(),
            "name": name,
            "line": {"color": charts.SERIES[i], "width": 2, "dash": charts.DASHES[i]},
        }
        for i, (column, name) in enumerate(columns.items())
    ]
    drawn = charts.chart(traces, "channels, by rank", "size of the scale", height=height)
    drawn["layout"]["shapes"] = [charts.upright(int(scales["kept"].sum()) + 0.5, charts.REMOVED)]
    return drawn


def ranked(values: Tensor) -> pd.DataFrame:
    """Singular values with their place: columns rank, value."""
    return pd.DataFrame({"rank": range(1, len(values) + 1), "value": values.numpy()})


def against_rank(counts: list[int], whole: int) -> charts.Chart:
    """Weights of the two thin layers at each rank, and those of the layer that they replace."""
    ranks = list(range(1, len(counts) + 1))
    traces: list[charts.Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ranks,
            "y": counts,
            "line": {"color": charts.KEPT, "width": 2},
            "name": "two thin layers",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": [1, len(counts)],
            "y": [whole, whole],
            "line": {"color": charts.ORIGINAL, "width": 2, "dash": "dash"},
            "name": "original",
        },
    ]
    return charts.chart(traces, "rank", "weights")
