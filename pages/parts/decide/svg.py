"""The plot as SVG text for a report: no script, nothing that is loaded, readable in print."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from engine.figures import scores
from pages.parts import curve_chart
from pages.parts.decide import points
from pages.parts.decide.plot import PALE, legend, looks
from pages.parts.decide.points import Row, View

WIDE, HIGH = 760, 380  # of the picture, in pixels
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 44  # room around the axes
STEPS = (1, 2, 5)  # of ticks within a power of ten


def picture(view: View, marks: Mapping[str, tuple[str, str]]) -> str:
    """Accuracy against bytes on a logarithmic axis; `marks` are rings, as of `points.marks`."""
    axes = Axes(*curve_chart.window(view.rows))
    shown = [row for row in view.rows if axes.holds(row)]
    colours = {name: colour for name, (colour, _) in looks(view).items()}
    dots = "".join(
        _dot(axes, row, colours[row["technique"]], row["recipe"] in view.on_front) for row in shown
    )
    rings = "".join(_ring(axes, view.of[key], *mark) for key, mark in marks.items() if key in view.of)
    title = f"Validation {view.what} against file size, {len(shown)} recipes"
    return (
        f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{title}" font-size="12" fill="currentColor">'
        f"<title>{title}</title>{axes.drawn()}{dots}{rings}</svg>{key(view)}"
    )


class Axes:
    """Where bytes and accuracies lie on the picture."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across, self.up = across, up

    def x(self, size: float) -> float:
        low, high = map(math.log10, self.across)
        return LEFT + (WIDE - LEFT - RIGHT) * (math.log10(size) - low) / (high - low)

    def y(self, accuracy: float) -> float:
        low, high = self.up
        return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * (accuracy - low) / (high - low)

    def holds(self, row: Row) -> bool:
        in_width = self.across[0] <= row["bytes"] <= self.across[1]
        return in_width and self.up[0] <= row["accuracy"] <= self.up[1]

    def drawn(self) -> str:
        """Both axes with ticks, grid and titles."""
        right, bottom = WIDE - RIGHT, HIGH - BOTTOM
        grid = "".join(
            f'<path d="M{self.x(size):.1f} {TOP}V{bottom}" stroke="#8884"/>'
            f'<text x="{self.x(size):.1f}" y="{bottom + 16}" text-anchor="middle">{_bytes(size)}</text>'
            for size in ticks(*self.across)
        )
        grid += "".join(
            f'<path d="M{LEFT} {self.y(share):.1f}H{right}" stroke="#8884"/>'
            f'<text x="{LEFT - 6}" y="{self.y(share) + 4:.1f}" text-anchor="end">{_level(share)}</text>'
            for share in _levels(*self.up)
        )
        names = (
            f'<text x="{(LEFT + right) / 2}" y="{HIGH - 8}" text-anchor="middle">file size (measured)</text>'
            f'<text transform="translate(13 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            f"validation {scores.name(self.up[0])} (measured)</text>"
        )
        return grid + names


def _bytes(size: float) -> str:
    """Round bytes, without a decimal place.

    >>> _bytes(50_000), _bytes(2e6), _bytes(500)
    ('50 KB', '2 MB', '500 B')
    """
    unit, scale = next((u for u in (("MB", 1e6), ("KB", 1e3)) if size >= u[1]), ("B", 1))
    return f"{size / scale:g} {unit}"


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in a range.

    >>> ticks(90, 1200)
    [100.0, 200.0, 500.0, 1000.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [at for power in powers for step in STEPS if low <= (at := step * 10.0**power) <= high]


def _levels(low: float, high: float) -> list[float]:
    """Four to ten round accuracies in a range, or the scores of round perplexities."""
    if scores.is_loss(low):
        return [-math.log(each) for each in curve_chart.levels(low, high)]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in (1, 2, 5, 10) if power * s >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _level(score: float) -> str:
    return f"{scores.value(score):,.4g}" if scores.is_loss(score) else f"{100 * score:.4g} %"


def _dot(axes: Axes, row: Row, colour: str, is_best: bool) -> str:
    """A point with its interval; pale where it is dominated."""
    x, ends = (
        axes.x(row["bytes"]),
        [axes.y(min(max(row[end], axes.up[0]), axes.up[1])) for end in ("low", "high")],
    )
    return (
        f'<g stroke="{colour}" fill="{colour}" opacity="{1 if is_best else PALE}">'
        f'<path d="M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/><circle cx="{x:.1f}" cy="{axes.y(row["accuracy"]):.1f}" r="3.5"/>'
        f"<title>{escape(points.label(row['recipe']))}: {points.size(row)}, {points.accuracy(row)}</title></g>"
    )


def _ring(axes: Axes, row: Row, words: str, place: str) -> str:
    """A ring around a point with words beside it; nothing where the point lies outside."""
    if not axes.holds(row):
        return ""
    x, y = axes.x(row["bytes"]), axes.y(row["accuracy"])
    side, down = "end" if "left" in place else "start", 22 if "bottom" in place else -12
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="#cc79a7" stroke-width="2"/>'
        f'<text x="{x:.1f}" y="{y + down:.1f}" text-anchor="{side}" font-weight="600">{escape(words)}</text>'
    )


def key(view: View) -> str:
    """Which colour stands for which family of techniques, as HTML."""
    entries = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, (colour, _) in legend(view).items()
    )
    return f'<p class="legend">{"".join(entries)}</p>'
