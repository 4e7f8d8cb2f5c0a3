"""The number lines of all formats over one another, with the histogram of weights under them: a chart."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pages.parts import charts

FOOT = 2.0  # height of the histogram in lines
ROW = 17  # pixels of a line


def number_lines(weight: Tensor, lines: Mapping[str, list[float]], reach: float) -> charts.Chart:
    """A line of ticks for each format, the first at the top; `weight` over the same axis at the foot."""
    places = [FOOT + len(lines) - i - 0.4 for i in range(len(lines))]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": at,
            "y": [place] * len(at),
            "marker": {"symbol": "line-ns", "size": 9, "line": {"width": 1.2, "color": charts.KEPT}},
            "hovertemplate": f"{title}: %{{x:.4g}}<extra></extra>",
        }
        for place, (title, at) in zip(places, lines.items(), strict=True)
    ]
    axis = {"tickvals": places, "ticktext": list(lines), "range": [0, FOOT + len(lines) + 0.2]}
    return charts.chart(
        [_foot(weight, reach), *traces],
        "weight",
        "",
        height=60 + ROW * (len(lines) + 2),
        xaxis={"range": [-1.05 * reach, 1.05 * reach]},
        yaxis={**axis, "showgrid": False},
    )


def _foot(weight: Tensor, reach: float) -> charts.Chart:
    counts, edges = charts.counted(charts.some(weight), reach)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": (edges[:-1] + edges[1:]) / 2,
        "y": 0.9 * FOOT * counts / max(int(counts.max()), 1),
        "line": {"shape": "hvh", "width": 1, "color": charts.ORIGINAL},
        "fill": "tozeroy",
        "hoverinfo": "skip",
    }
