"""Matrices that share a projection: what each keeps at every rank, and their thin factors, to scale."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd

from engine.net.projecting import Level
from pages.parts import charts

WIDE, GAP, WORDS = 460, 20, 36  # px of the drawing, of its signs and of two lines of words
TALLEST = 150  # of the tallest matrix


def kept(level: Level) -> charts.Chart:
    """A line for each matrix: the share of its sum of squares that is kept at each rank."""
    rows = [
        {"rank": rank, "kept": share, "matrix": name.removesuffix(".weight")}
        for name, own in zip(level.names, level.joint.kept[:, :-1].tolist(), strict=True)
        for rank, share in enumerate(own, 1)
    ]
    figure = charts.lines(
        pd.DataFrame(rows), "rank", "kept", "matrix", titles=("rank", "energy kept"), height=250, percent=True
    )
    for trace in figure["data"]:
        trace["mode"] = "lines"
    return figure


def marks(level: Level, rank: int) -> list[dict[str, object]]:
    """The rank as a line, and what each matrix keeps there."""
    shares = level.joint.kept[:, rank - 1].tolist()
    words = f"rank {rank}: {' and '.join(f'{100 * share:.1f} %' for share in shares)}"
    at = {"kind": "line", "at": rank, "colour": charts.CHANGED, "text": words, "top": 125}
    colours = zip(shares, charts.SERIES, strict=False)
    return [at, *({"kind": "dot", "x": rank, "y": share, "colour": colour} for share, colour in colours)]


def drawn(level: Level, rank: int) -> str:
    """The matrices of a level and their thin factors, with what they are called in the model."""
    pairs = zip(level.names, level.joint.matrices, strict=True)
    shapes = {name.removesuffix(".weight"): (len(own), own.shape[1]) for name, own in pairs}
    return to_scale(shapes, level.projection, rank)


def to_scale(shapes: Mapping[str, tuple[int, int]], projection: str, rank: int) -> str:
    """Name -> (rows, states) of each matrix, the recurrent one first: W ≈ Z P side by side, with the same P in all.

    >>> "16 x 2 + 3 x 2 and once 2 x 4 for P = 46" in to_scale({"hh": (16, 4), "fc": (3, 4)}, "hr", 2)
    True
    """
    states = max(columns for _, columns in shapes.values())
    tallest = max(rank, *(rows for rows, _ in shapes.values()))
    column = WIDE / len(shapes)
    pixel = min((column - 3 * GAP) / (2 * states + rank), TALLEST / tallest)
    parts = []
    for number, (name, (rows, _)) in enumerate(shapes.items()):
        left = number * column
        parts.append(_equation(left, "h" if number == 0 else "x", name, projection))
        parts.append(_matrices(left, rows, states, rank, pixel))
    said, tall = _said(shapes, rank, states), WORDS + tallest * pixel + 2
    return (
        f'<svg viewBox="0 0 {WIDE} {tall:.0f}" style="width:100%;max-width:{WIDE}px" role="img" '
        f'aria-label="{escape(said)}">{"".join(parts)}</svg><p class="caption">{escape(said)}</p>'
    )


def _matrices(left: float, rows: int, states: int, rank: int, pixel: float) -> str:
    thin = left + states * pixel + GAP
    last = thin + rank * pixel + GAP
    middle = WORDS + min(rows, rank) * pixel / 2
    return (
        _box(left, states, rows, pixel, charts.ORIGINAL)
        + _sign(thin - GAP / 2, middle, "≈")
        + _box(thin, rank, rows, pixel, charts.KEPT)
        + _sign(last - GAP / 2, middle, "x")
        + _box(last, states, rank, pixel, charts.CHANGED)
    )


def _equation(left: float, index: str, name: str, projection: str) -> str:
    """Zₓ = Wₓ Pᵀ (P Pᵀ)⁻¹, and which matrices of the model these are."""
    small = f'<tspan dy="3" font-size="8">{index}</tspan><tspan dy="-3">'
    words = f"W{small} ≈ Z</tspan>{small} P,</tspan> P: {escape(projection)}"
    lines = (f"{words}", f"W: {escape(name)}")
    return "".join(
        f'<text x="{left:.1f}" y="{y}" fill="currentColor" font-size="11">{line}</text>'
        for y, line in zip((11, 26), lines, strict=True)
    )


def _said(shapes: Mapping[str, tuple[int, int]], rank: int, states: int) -> str:
    rows = [rows for rows, _ in shapes.values()]
    before, after = sum(rows) * states, rank * (sum(rows) + states)
    sums = " + ".join(f"{each:,} x {rank:,}" for each in rows)
    return (
        f"{' + '.join(f'{each:,} x {states:,}' for each in rows)} = {before:,} weights. At rank {rank:,}: {sums} and "
        f"once {rank:,} x {states:,} for P = {after:,}. Each Z is W Pᵀ (P Pᵀ)⁻¹, the nearest for this P."
    )


def _box(left: float, columns: int, rows: int, pixel: float, colour: str) -> str:
    width, height = (max(side * pixel, 1.0) for side in (columns, rows))
    size = f'x="{left:.1f}" y="{WORDS}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{colour}" stroke="{colour}" fill-opacity="0.35"/>'


def _sign(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" fill="currentColor" font-size="14">{text}</text>'
