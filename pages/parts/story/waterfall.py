"""Where the bytes go, step by step, as a table with floating bars: what each adds, and the file after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any

from engine.types import Basis, Figure
from pages.parts import charts, figures

Row = Mapping[str, Any]  # an accuracy: value, low, high, n
OF_FILE = Figure(
    "file", 0, "B", Basis.MEASURED, "bytes of the file that was written; the plain file's are counted"
)


@dataclass(frozen=True)
class Bar:
    """A step: what it adds to the file (bytes, negative where it saves), and the accuracy after it."""

    step: str
    name: str
    change: int
    accuracy: Row


def spans(changes: Sequence[int]) -> list[tuple[int, int]]:
    """From where to where each bar reaches, in bytes: it ends at the size of the file after its step.

    >>> spans([100, -60, 5])
    [(0, 100), (40, 100), (40, 45)]
    """
    after = list(accumulate(changes))
    return [
        (min(end, end - change), max(end, end - change)) for end, change in zip(after, changes, strict=True)
    ]


def html(
    bars: Sequence[Bar], told: Collection[str], now: Collection[str] = (), enlarged: int | None = None
) -> str:
    """The waterfall as a table; steps that are not told yet are named only, those of `now` are marked.

    From row number `enlarged` on bars are drawn longer, as far as there is room, which a line above them says.
    """
    changes = [bar.change for bar in bars]
    sizes, reach = list(accumulate(changes)), spans(changes)
    widest = [max((end for _, end in reach), default=1)] * len(bars)
    if enlarged is not None:
        widest[enlarged:] = [max(end for _, end in reach[enlarged:])] * (len(bars) - enlarged)
    drawn = [
        _row(bar, size, span, wide, bar.step in now) if bar.step in told else _later(bar)
        for bar, size, span, wide in zip(bars, sizes, reach, widest, strict=True)
    ]
    if enlarged is not None:
        longer = f"From here on bars are drawn {widest[0] / widest[-1]:.0f} times as long."
        drawn.insert(enlarged, f'<tr><td colspan="4" class="longer">{longer}</td></tr>')
    rows = "".join(drawn)
    head = (
        f"<tr><th>step</th><th>what it adds, in bytes</th><th>file {figures.badge(OF_FILE)}</th>"
        "<th>test accuracy</th></tr>"
    )
    n = max((bar.accuracy["n"] for bar in bars), default=0)
    words = f"Test accuracy: how many of {n:,} digits that the model never saw it reads right, with the 95 % interval."
    return f'<table class="waterfall"><caption>{words}</caption>{head}{rows}</table>'


def _row(bar: Bar, size: int, span: tuple[int, int], widest: int, is_now: bool) -> str:
    left, right = (100 * end / widest for end in span)
    colour = charts.ORIGINAL if bar.change == size else charts.KEPT if bar.change < 0 else charts.CHANGED
    change = f"{bar.change:,}" if bar.change == size else f"{bar.change:+,}".replace("-", "\u2212")
    value = figures.text(bar.accuracy["value"], "share")
    spread = f"{100 * bar.accuracy['low']:.2f} to {100 * bar.accuracy['high']:.2f}"
    drawn = f"left:{left:.3f}%;width:max(2px,{right - left:.3f}%);background:{colour}"
    return (
        f'<tr class="{"here" if is_now else ""}"><th scope="row">{_name(bar)}</th>'
        f'<td data-step="{bar.step}" data-change="{bar.change}"><span class="track"><span style="{drawn}"></span></span>'
        f'{change}</td><td data-size="{size}">{size:,}</td><td>{value}<small>{spread}</small></td></tr>'
    )


def _name(bar: Bar) -> str:
    return escape(bar.name).replace(" %", "&nbsp;%")


def _later(bar: Bar) -> str:
    return f'<tr class="later"><th scope="row">{_name(bar)}</th><td><span class="track"></span>?</td><td>?</td><td>?<small>&nbsp;</small></td></tr>'
