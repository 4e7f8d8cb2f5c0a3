"""Matrices that share a projection, beside their thin factors, drawn to scale with the equation of each."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from pages.parts import charts

WIDE, GAP, WORDS = 440, 26, 18  # px of the drawing, of its signs and of a line of words
TALLEST = 150  # of the tallest matrix


def drawn(shapes: Mapping[str, tuple[int, int]], projection: str, rank: int) -> str:
    """Name -> (rows, states) of each matrix, the recurrent one first: W ≈ Z P, with P in one colour in all.

    >>> "16 x 2 + 3 x 2 and once 2 x 4 for P = 46" in drawn({"hh": (16, 4), "fc": (3, 4)}, "hr", 2)
    True
    """
    states = max(columns for _, columns in shapes.values())
    tallest = max(rows for rows, _ in shapes.values())
    pixel = min((WIDE - 2 * GAP) / (2 * states + rank), TALLEST / tallest)
    parts, top = list[str](), 0.0
    for number, (name, (rows, _)) in enumerate(shapes.items()):
        parts.append(_row(top + WORDS, rows, states, rank, pixel))
        parts.append(_equation(top + WORDS - 5, "h" if number == 0 else "x", name, projection))
        top += WORDS + max(rows, rank) * pixel + 8
    said = _said(shapes, rank, states)
    return (
        f'<svg viewBox="0 0 {WIDE} {top:.0f}" style="width:100%;max-width:{WIDE}px" role="img" '
        f'aria-label="{escape(said)}">{"".join(parts)}</svg><p class="caption">{escape(said)}</p>'
    )


def _row(top: float, rows: int, states: int, rank: int, pixel: float) -> str:
    thin = states * pixel + GAP
    last = thin + rank * pixel + GAP
    middle = top + min(rows, rank) * pixel / 2
    return (
        _box(0, top, states, rows, pixel, charts.ORIGINAL)
        + _sign(thin - GAP / 2, middle, "≈")
        + _box(thin, top, rank, rows, pixel, charts.KEPT)
        + _sign(last - GAP / 2, middle, "x")
        + _box(last, top, states, rank, pixel, charts.CHANGED)
    )


def _equation(base: float, index: str, name: str, projection: str) -> str:
    """Zₓ = Wₓ Pᵀ (P Pᵀ)⁻¹, and which matrices of the model these are."""
    small = f'<tspan dy="3" font-size="8">{index}</tspan><tspan dy="-3">'
    words = f"W{small} ≈ Z</tspan>{small} P</tspan>"
    names = escape(f"W: {name}, P: {projection}")
    return f'<text x="0" y="{base:.1f}" fill="currentColor" font-size="12">{words} &#160; {names}</text>'


def _said(shapes: Mapping[str, tuple[int, int]], rank: int, states: int) -> str:
    rows = [rows for rows, _ in shapes.values()]
    before, after = sum(rows) * states, rank * (sum(rows) + states)
    sums = " + ".join(f"{each:,} x {rank:,}" for each in rows)
    return (
        f"{' + '.join(f'{each:,} x {states:,}' for each in rows)} = {before:,} weights. At rank {rank:,}: {sums} and "
        f"once {rank:,} x {states:,} for P = {after:,}. Each Z is W Pᵀ (P Pᵀ)⁻¹, the nearest for this P."
    )


def _box(left: float, top: float, columns: int, rows: int, pixel: float, colour: str) -> str:
    width, height = (max(side * pixel, 1.0) for side in (columns, rows))
    size = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{colour}" stroke="{colour}" fill-opacity="0.35"/>'


def _sign(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" fill="currentColor" font-size="14">{text}</text>'
