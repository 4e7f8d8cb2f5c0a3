"""A Figure on screen: a tile or a table cell with unit, basis badge and how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import pandas as pd

from engine.figures import scores
from engine.types import Basis, Figure
from pages.parts.glossary import explained

SETTLES = 1000  # samples: with fewer, an interval around zero says little


def text(value: float, unit: str) -> str:
    """A value in the unit that people read: bytes as KB (1000 B), shares as per cent.

    A share is not rounded to none or all.

    >>> text(1066440, "bytes"), text(0.9821, "share"), text(0.999999, "share"), text(2.5e-4, "seconds")
    ('1,066.4 KB', '98.21 %', '>99.99 %', '0.250 ms')
    """
    match unit:
        case "bytes" | "B":
            return _scaled(value, (("MB", 1e6), ("KB", 1e3), ("B", 1)), 1)
        case "share":
            if 0 < abs(value) < 5e-5:
                return f"{'<' if value > 0 else '>-'}0.01 %"
            return ">99.99 %" if 0.99995 <= value < 1 else f"{plain(100 * value, '.2f')} %"
        case "seconds":
            return f"{1e3 * value:.3f} ms" if value < 1 else f"{value:.2f} s"
        case "MAC":
            return _scaled(value, (("GMAC", 1e9), ("MMAC", 1e6), ("kMAC", 1e3), ("MAC", 1)), 2)
        case "ms":
            return f"{value:.3f} ms"
        case "points":
            return plain(100 * value, "+.2f")
        case "nat":
            return f"{value:.3g} nat" if 0 < abs(value) < 0.1 else f"{plain(value, '.3f')} nat"
        case "times":
            return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"
        case "dB":
            return f"{plain(value, '.1f')} dB"
        case "bits":
            return f"{plain(value, '.2f')} bit"
        case "perplexity":
            return f"{value:,.1f}" if value < 1e4 else f"{value:.2e}"
        case "relative":
            return f"{plain(100 * value, '+.1f' if abs(value) < 10 else '+,.0f')} %"
    whole = float(value).is_integer()
    return plain(value, ",.0f" if whole else ",.4g")


def _scaled(value: float, units: tuple[tuple[str, float], ...], digits: int) -> str:
    for name, size in units:
        # The largest unit takes over at ten thousand of the one below, so that KB stay KB up to 10 MB.
        if abs(value) >= size * (10 if name in ("MB", "GMAC") else 1) or size == 1:
            return f"{value / size:,.{0 if size == 1 else digits}f} {name}"
    return str(value)


def plain(value: float, form: str) -> str:
    """A number in this form of Python's, without the sign of one that rounds to zero.

    >>> plain(-0.0004, ".3f"), plain(-0.04, "+.2f"), plain(-0.001, "+.2f"), plain(0.0, "+.1f")
    ('0.000', '-0.04', '0.00', '0.0')
    """
    written = format(value, form)
    return written if any(digit in written for digit in "123456789") else written.lstrip("+-")


def interval(figure: Figure) -> str:
    """The spread in the figure's own unit, or nothing."""
    if figure.spread is None:
        return ""
    low, high = (text(v, figure.unit) for v in figure.spread)
    return f"{low} to {high}"


def points(figure: Figure, n: int) -> str:
    """A difference of shares on n samples in points, with its interval: -1.20 points (-1.51 to -0.89).

    Fewer than SETTLES samples never say that two are alike. A change of perplexity is told in per cent of it.
    """
    margin = _margin(figure)
    if figure.unit == scores.RELATIVE:
        return f"{text(figure.value, figure.unit)} of perplexity {margin}".rstrip()
    if n < SETTLES:
        margin = margin.replace("a tie", "and not settled")
    return (
        f"{plain(100 * figure.value, '+.2f')} points{',' if margin.startswith('a') else ''} {margin}".rstrip()
    )


def _margin(figure: Figure) -> str:
    """The interval of a difference of shares: (-1.51 to -0.89), or a tie (-0.51 to +0.20)."""
    if figure.spread is None:
        return ""
    low, high = figure.spread
    if figure.unit == scores.RELATIVE:
        return f"({text(low, figure.unit)} to {text(high, figure.unit)})"
    return (
        f"{'a tie ' if low <= 0 <= high else ''}({plain(100 * low, '+.2f')} to {plain(100 * high, '+.2f')})"
    )


def is_change(figure: Figure) -> bool:
    """Whether this is a difference of two shares: it is told in points."""
    return figure.unit == "share" and any(word in figure.name for word in ("change", "gain"))


def titled(name: str) -> str:
    """A figure's name as the title of its tile.

    >>> titled("KL of the outputs"), titled("weights kept")
    ('KL of the outputs', 'Weights kept')
    """
    return name[:1].upper() + name[1:]


def said(figure: Figure) -> str:
    """The interval as a note: of a change in points, of anything else in its own unit."""
    return _margin(figure) if is_change(figure) else interval(figure)


@dataclass(frozen=True)
class Tile:
    """One figure in the header; `was` is the original's value, shown while the compare button is held.

    `samples` says how many samples it was measured on.
    """

    name: str
    figure: Figure | None
    note: str = ""
    was: Figure | None = None
    pending: bool = False
    samples: str = ""

    def html(self) -> str:
        if self.figure is None:
            return (
                f'<div class="tile" data-tile="{escape(self.name)}" aria-busy="{str(self.pending).lower()}">'
                f'<div class="name"><span>{explained(self.name)}</span></div><div class="value">-</div><div class="note">{escape(self.note)}</div></div>'
            )
        change = is_change(self.figure)
        value = (
            f"{plain(100 * self.figure.value, '+.2f')} points"
            if change
            else text(self.figure.value, self.figure.unit)
        )
        words = ", ".join(filter(None, (self.note, self.samples)))
        note = "working it out ..." if self.pending else escape(words)
        return (
            f'<div class="tile{" pending" if self.pending else ""}" data-tile="{escape(self.name)}" data-figure="{escape(self.figure.name)}"'
            f' data-value="{self.figure.value!r}" aria-busy="{str(self.pending).lower()}">'
            f'<div class="name"><span>{explained(self.title)}</span>{badge(self.figure)}</div>'
            f'<div class="value">{self._pair(escape(value), self.was and text(self.was.value, self.was.unit))}</div>'
            f'<div class="note">{self._pair(note, self.was and "original")}</div></div>'
        )

    @property
    def title(self) -> str:
        """What is above the figure: of a language model the tile of accuracy holds its perplexity."""
        is_of_text = self.figure is not None and self.figure.unit == scores.PERPLEXITY
        return titled(self.figure.name) if is_of_text and self.figure else self.name

    @staticmethod
    def _pair(now: str, was: str | None) -> str:
        return now if was is None else f'<span class="now">{now}</span><span class="was">{escape(was)}</span>'


def badge(figure: Figure) -> str:
    """The basis as a small label; pointing at it says how the number was made."""
    how = escape(figure.how, quote=True)
    return f'<span class="basis {figure.basis}" title="{how}" tabindex="0">{figure.basis}</span>'


def notice(words: str, kind: str = "note") -> str:
    """A sentence in a box; `alert` where something is wrong."""
    return f'<div class="notice {kind}" role="{kind}">{escape(words)}</div>'


def left_out(layer: str) -> str:
    """That a step does not touch this layer, in a box."""
    return notice(f"{layer} is left out: it stays as it is.")


def caption(words: str) -> str:
    """A sentence in small letters; nothing without one."""
    if not words:
        return ""
    return f'<p class="caption">{escape(words)}</p>'


def tiles(row: Iterable[Tile], still: bool = False) -> str:
    """Tiles side by side as one piece of HTML; those that nothing moves keep no room for longer notes."""
    return f'<div class="tiles{" still" if still else ""}">{"".join(tile.html() for tile in row)}</div>'


def ledger(figures: Iterable[Figure], reference: float) -> str:
    """Figures as a table: name, value, ratio to `reference`, basis and how."""
    rows = "".join(
        f"<tr><td>{explained(f.name)}</td><td>{escape(text(f.value, f.unit))}</td>"
        f"<td>{f'{reference / f.value:.2f}x' if f.unit == 'B' and f.value else ''}</td>"
        f'<td>{badge(f)}</td><td class="text">{escape(f.how)}</td></tr>'
        for f in figures
    )
    head = "<tr><th>as</th><th>size</th><th>ratio</th><th>basis</th><th style='text-align:left'>how</th></tr>"
    return f'<div class="scroll"><table class="slim-table">{head}{rows}</table></div>'


@dataclass(frozen=True)
class Column:
    """How one column of a small table is written: its title, unit, and the colour of a bar for a share.

    `span` names the two columns that hold the ends of its interval.
    """

    title: str
    unit: str = ""
    bar: str = ""
    span: tuple[str, str] | None = None


def table(frame: pd.DataFrame, columns: dict[str, Column], here: str = "") -> str:
    """A small HTML table of layers; the row of layer `here` is marked, shares may carry a bar."""
    head = "".join(f"<th>{explained(c.title)}</th>" for c in columns.values())
    rows = []
    layers = frame["layer"].tolist() if "layer" in frame else [""] * len(frame)
    ends = [_ends(frame, column) for column in columns.values()]
    values = zip(*(frame[name].tolist() for name in columns), strict=True)
    for layer, row, *spans in zip(layers, values, *ends, strict=True):
        cells = "".join(map(_cell, row, columns.values(), spans))
        rows.append(f'<tr class="{"here" if here and layer == here else ""}">{cells}</tr>')
    return f'<div class="scroll"><table class="slim-table"><tr>{head}</tr>{"".join(rows)}</table></div>'


def _ends(frame: pd.DataFrame, column: Column) -> list[str]:
    """The interval of each row in words; nothing where the column has none."""
    if column.span is None:
        return [""] * len(frame)
    ends = zip(*(frame[end].tolist() for end in column.span), strict=True)
    return [f"({text(low, column.unit)} to {text(high, column.unit)})" for low, high in ends]


def _cell(value: object, column: Column, span: str) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if not isinstance(value, int | float):
        return f'<td class="text">{escape(str(value))}</td>'
    if value != value:
        return "<td>-</td>"
    bar = f'<span class="bar" style="width:{60 * min(value, 1):.1f}px;background:{column.bar}"></span>'
    between = f" <small>{span}</small>" if span else ""
    return f"<td>{bar if column.bar else ''}{escape(text(value, column.unit))}{between}</td>"


MEANING = {
    Basis.COUNTED: "exact, read off the tensors",
    Basis.MODELLED: "a formula under stated assumptions",
    Basis.MEASURED: "observed by running the model or writing the file",
}
