"""Predicted against measured, point by point."""

from __future__ import annotations

import pandas as pd

from pages.parts import charts


def sizes(frame: pd.DataFrame, x: str, y: str, by: str, titles: tuple[str, str]) -> charts.Chart:
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
        "line": {"color": charts.ORIGINAL, "width": 1, "dash": "dot"},
        "name": "equal",
        "hoverinfo": "skip",
    }
    points = []
    for i, (name, part) in enumerate(frame.groupby(by, sort=False)):
        symbol = charts.MARKERS[i % len(charts.MARKERS)]
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
                    "color": charts.SERIES[i % len(charts.SERIES)],
                    "symbol": [symbol if same else f"{symbol}-open" for same in signs],
                },
                "name": str(name),
            }
        )
    axis = {"type": "log", "exponentformat": "e"}
    many = {"showlegend": False} if len(points) > len(charts.SERIES) else {}
    return charts.chart([equal, *points], *titles, xaxis=axis, yaxis=dict(axis), **many)
