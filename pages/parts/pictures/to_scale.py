"""A matrix beside the two thin ones that replace it, drawn to scale: areas are numbers of weights."""

from __future__ import annotations

from html import escape

from pages.parts import charts

WIDE, TALL, GAP = 440, 190, 26  # px of the drawing


def drawn(shape: tuple[int, int], rank: int, name: str) -> str:
    """(rows, columns) of the matrix, and the rank that it is cut at; red where the thin ones are bigger.

    >>> "300 x 100 weights = 30,000" in drawn((300, 100), 10, "fc1")
    True
    """
    rows, columns = shape
    whole, thin = rows * columns, rank * (rows + columns)
    pixel = min((WIDE - 2 * GAP) / (2 * columns + rank), TALL / max(rows, rank))
    colour = charts.REMOVED if thin > whole else charts.KEPT
    left, middle = columns * pixel + GAP, columns * pixel + GAP + rank * pixel + GAP
    boxes = (
        _box(0, columns, rows, pixel, charts.ORIGINAL)
        + _sign(left - GAP / 2, rows * pixel / 2, "≈")
        + _box(left, rank, rows, pixel, colour)
        + _sign(middle - GAP / 2, rows * pixel / 2, "x")
        + _box(middle, columns, rank, pixel, colour)
    )
    words = _words(shape, rank, whole, thin)
    high = max(rows, rank) * pixel
    drawing = (
        f'<svg viewBox="0 -1 {WIDE} {high + 2:.0f}" style="width:100%;max-height:{TALL}px" role="img" '
        f'aria-label="{escape(f"{name}, to scale: {words}")}">{boxes}</svg>'
    )
    return f'{drawing}<p class="caption">{escape(words)}</p>'


def _words(shape: tuple[int, int], rank: int, whole: int, thin: int) -> str:
    rows, columns = shape
    more = f"bigger by {thin - whole:,}" if thin > whole else f"{thin / whole:.1%} of it"
    return (
        f"{rows:,} x {columns:,} weights = {whole:,}. Two thin ones at rank {rank:,}: {rows:,} x {rank:,} + {rank:,} x "
        f"{columns:,} = {thin:,}, {more}. Even at rank {whole / (rows + columns):.1f}, mn / (m + n)."
    )


def _box(left: float, columns: int, rows: int, pixel: float, colour: str) -> str:
    width, height = (max(side * pixel, 1.0) for side in (columns, rows))
    return f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="{height:.1f}" fill="{colour}" stroke="{colour}" fill-opacity="0.35"/>'


def _sign(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" fill="currentColor" font-size="16">{text}</text>'
