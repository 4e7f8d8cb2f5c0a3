"""The pictures of the chapters: weights and what goes, the cliff, the recovery, the stairs, two squares, files of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pages.parts import charts, figures
from pages.parts.charts import Chart
from pages.parts.story.told import Row

GUESS = {"size": 13, "symbol": "x", "color": charts.CHANGED}
WON = "#009e73"  # what training wins back
ROOM = 0.02  # of accuracy above and below the lowest and the highest


def fitted(figure: Chart, size: int) -> Chart:
    """The figure as high as its place, all letters of this size (pixels): ticks, titles of axes, notes."""
    layout, font = figure["layout"], {"size": size}
    layout.pop("height", None)
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"tickfont": font, "title": {**layout[axis]["title"], "font": font}}
    layout["xaxis"]["tickangle"] = 0
    for note in layout.get("annotations", ()):
        note.setdefault("font", font)
    return figure


def weights(values: Tensor, threshold: float | None = None, words: str = "") -> Chart:
    """How often each weight occurs; with a threshold, the band that goes."""
    figure = charts.histogram(values, "weights")
    figure["layout"]["xaxis"]["title"]["text"] = "value of a weight"
    figure["layout"]["yaxis"]["title"]["text"] = "how many weights"
    if threshold is not None:
        figure["layout"]["shapes"] = [
            {
                "type": "rect",
                "x0": -threshold,
                "x1": threshold,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "fillcolor": charts.REMOVED,
                "opacity": 0.28,
                "line": {"width": 0},
            }
        ]
        figure["layout"]["annotations"] = [_note(threshold, 0.92, f" {words}", yref="paper", xanchor="left")]
    return figure


def _note(x: float, y: float, text: str, **more: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "text": text, "showarrow": False, **more}


def _line(rows: Sequence[Row], colour: str, **more: Any) -> Chart:
    """Accuracies with their intervals over the share of zeros."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [row["sparsity"] for row in rows],
        "y": [row["value"] for row in rows],
        "error_y": charts.intervals(rows, "value", thickness=1.5, width=4),
        "line": {"color": colour, "width": 2},
        "marker": {"size": 9, "color": colour},
        "hovertemplate": "%{x:.0%} zeros: %{y:.2%} right<extra></extra>",
        "showlegend": False,
        **more,
    }


def _guess(sparsity: float, guess: float) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [sparsity],
        "y": [guess],
        "marker": GUESS,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _answers(x: float, measured: Row, guess: float, room: float, **more: Any) -> list[dict[str, Any]]:
    """The guess and what was measured in words, right of their points and never over each other."""
    value = measured["value"]
    apart = max(abs(value - guess), room) - abs(value - guess)
    up = apart / 2 if value >= guess else -apart / 2
    beside = {"xanchor": "left", "xshift": 10}
    return [
        _note(x, value + up, f"<b>it is {figures.text(value, 'share')}</b>", **beside, **more),
        _note(x, guess - up, f"guess {100 * guess:.4g} %", **beside),
    ]


def _plot(traces: list[Chart], across: tuple[float, float], up: tuple[float, float]) -> Chart:
    return charts.chart(
        traces,
        "share of weights that are zero",
        "test accuracy",
        xaxis={"range": list(across), "tickformat": ".0%"},
        yaxis={"range": list(up), "tickformat": ".0%", "nticks": 6},
    )


def cliff(rows: Sequence[Row], guess: float | None) -> Chart:
    """Accuracy against the share of zeros; the last point is seen beside the guess only."""
    last = rows[-1]
    if guess is None:
        figure = _plot([_line(rows[:-1], charts.KEPT)], (-0.03, 1.45), (0, 1.03))
        figure["layout"]["shapes"] = [charts.upright(last["sparsity"], charts.CHANGED)]
        notes = [_note(last["sparsity"], 0.5, "?", font={"size": 28}, xanchor="left", xshift=8)]
    else:
        shown = [_line(rows, charts.KEPT), _guess(last["sparsity"], guess)]
        figure = _plot(shown, (-0.03, 1.45), (0, 1.03))
        notes = _answers(last["sparsity"], last, guess, 0.1)
    figure["layout"]["annotations"] = notes
    figure["layout"]["xaxis"]["tickvals"] = [0, 0.2, 0.4, 0.6, 0.8, 1]
    return figure


def recovery(rows: Sequence[Row], tuned: Row, original: Row, guess: float | None) -> Chart:
    """The fall of accuracy up to the pruned model (the last of the rows), and where training brings it back to."""
    first, pruned = rows[0]["sparsity"], rows[-1]
    at, lowest = pruned["sparsity"], min(pruned["low"], 1.0 if guess is None else guess)
    across, up = (first - 0.08, at + 0.3), (lowest - ROOM, 1 + ROOM / 2)
    line = _line(rows, charts.KEPT)
    if guess is None:
        figure = _plot([line], across, up)
        middle = (pruned["value"] + original["value"]) / 2
        notes = [_note(at, middle, "?", font={"size": 28}, xanchor="left", xshift=8)]
    else:
        back = _line([{**tuned, "sparsity": at}], WON, mode="markers")
        figure = _plot([line, back, _guess(at, guess)], across, up)
        notes = [
            _arrow(at, pruned["value"], tuned["value"]),
            *_answers(at, tuned, guess, 0.13 * (up[1] - up[0]), yanchor="top"),
        ]
    notes += [_note(across[0], original["value"], "the original", xanchor="left", yanchor="bottom", xshift=4)]
    level = {
        "type": "line",
        "x0": 0,
        "x1": 1,
        "xref": "paper",
        "y0": original["value"],
        "y1": original["value"],
    }
    figure["layout"]["shapes"] = [{**level, "line": {"color": charts.ORIGINAL, "width": 1.5, "dash": "dash"}}]
    figure["layout"]["annotations"] = notes
    figure["layout"]["xaxis"]["tickvals"] = [row["sparsity"] for row in rows]
    return figure


def _arrow(x: float, low: float, high: float) -> dict[str, Any]:
    """An arrow that points straight up."""
    ends = {"x": x, "y": high, "ax": x, "ay": low, "axref": "x", "ayref": "y", "xref": "x", "yref": "y"}
    return {
        **ends,
        "text": "",
        "showarrow": True,
        "arrowhead": 2,
        "arrowwidth": 2,
        "arrowcolor": WON,
        "standoff": 6,
    }


def levels(after: NDArray[np.float32]) -> NDArray[np.float64]:
    """The evenly spaced levels that rounded values stand on, those included that none uses between them.

    >>> levels(np.array([-0.5, 0.0, 0.0, 1.5], np.float32)).tolist()
    [-0.5, 0.0, 0.5, 1.0, 1.5]
    """
    there = np.unique(after.astype(np.float64))
    if len(there) < 2:
        return there
    step = float(np.diff(there).min())
    return there[0] + step * np.arange(round((there[-1] - there[0]) / step) + 1)


def staircase(before: NDArray[np.float32], after: NDArray[np.float32]) -> Chart:
    """Each weight that is left before rounding (across) and after (up), on the stairs of their levels."""
    stairs = levels(after)
    between = (stairs[:-1] + stairs[1:]) / 2
    reach = float(np.abs(before).max(initial=0.0))
    across = np.concatenate([[min(-reach, stairs[0])], np.repeat(between, 2), [max(reach, stairs[-1])]])
    steps = {
        "type": "scatter",
        "mode": "lines",
        "x": across.tolist(),
        "y": np.repeat(stairs, 2).tolist(),
        "line": {"color": charts.ORIGINAL, "width": 2},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": before.tolist(),
        "y": after.tolist(),
        "marker": {"size": 8, "color": charts.KEPT, "opacity": 0.6},
        "hovertemplate": "%{x:.4f} becomes %{y:.4f}<extra></extra>",
        "showlegend": False,
    }
    return charts.chart([steps, dots], "weight before rounding", "weight in the file")


def squares(first: int, last: int) -> str:
    """Two files as squares to scale: the area of each is its bytes."""
    side = 100 * (last / first) ** 0.5
    words = f"Two squares to scale: the original file with {first:,} bytes, the last one with {last:,} bytes"
    return (
        f'<div class="squares" role="img" aria-label="{words}">'
        f'<figure><div style="width:100%;background:{charts.ORIGINAL}"></div>'
        f"<figcaption>the original<b>{figures.text(first, 'B')}</b></figcaption></figure>"
        f'<figure><div style="width:{side:.3f}%;background:{charts.KEPT}"></div>'
        f"<figcaption>your file<b>{figures.text(last, 'B')}</b></figcaption></figure></div>"
    )


OWN = ((charts.KEPT, "circle"), (charts.CHANGED, "circle"))
OTHERS = (charts.ORIGINAL, "diamond", "bottom center")


def rivals(
    own: Sequence[tuple[str, int, float]],
    others: Sequence[tuple[str, int, float]],
    along: Sequence[tuple[int, float]],
) -> Chart:
    """Files as points: bytes (across, down to zero) against test errors in per cent; each with its name.

    `along` are bytes and errors of the same recipe with other shares of zeros: a line.
    """
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [size for size, _ in along],
        "y": [error for _, error in along],
        "line": {"color": charts.KEPT, "width": 1},
        "marker": {"size": 5},
        "hovertemplate": "other shares of zeros: %{x:,} bytes, %{y:.2f} % errors<extra></extra>",
        "showlegend": False,
    }
    files, smallest = [*own, *others], min(size for _, size, _ in own)
    sides = ["left" if len(own) > 1 and size == smallest else "right" for _, size, _ in own]
    looks = [(*look, f"middle {side}") for look, side in zip(OWN, sides, strict=False)]
    looks += [OTHERS] * len(others)
    named = [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [size],
            "y": [error],
            "text": [f" {name}: {size:,} B "],
            "textposition": where,
            "marker": {"size": 12, "color": colour, "symbol": symbol},
            "hovertemplate": "%{x:,} bytes, %{y:.2f} % errors<extra></extra>",
            "cliponaxis": False,
            "showlegend": False,
        }
        for (name, size, error), (colour, symbol, where) in zip(files, looks, strict=True)
    ]
    most = max(size for size in (*(size for _, size, _ in files), *(size for size, _ in along)))
    worst = max(error for error in (*(error for _, _, error in files), *(error for _, error in along)))
    return charts.chart(
        [line, *named],
        "bytes of the file",
        "test errors in %",
        xaxis={"range": [0, 1.25 * most]},
        yaxis={"range": [0, 1.2 * worst]},
    )
