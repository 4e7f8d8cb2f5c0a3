"""The same beginning at each width of the weights: the text, the bytes, the perplexity; and the trap."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import takewhile

import pandas as pd
import streamlit as st

from engine.figures import scores
from engine.recipe import technique
from engine.types import Figure, Recipe
from pages.parts import cached, figures, jobs, visitor
from pages.parts.figures import Column
from pages.parts.pictures import tokens as pictures
from pages.parts.writing.page import COUNT, SUBJECT, Asked

BITS = (8, 4, 3, 2)
TABLE = "tokens"  # the layer that holds a vector for each token, and scores them at the end
WINDOWS = 20  # of the test part, on which each width is measured while a visitor waits


def key_of(bits: int | None, with_table: bool) -> str:
    """The recipe of a width; None is the original."""
    if bits is None:
        return "[]"
    left_out = [] if with_table else [TABLE]
    step = technique.step("quantize", bits=bits, granularity="group", group=64, leave_out=left_out)
    return technique.complete(Recipe((step,))).key


def refined() -> bool:
    """Whether perplexity is known on all windows, of every width; what is not is measured behind the page."""
    for key in (key_of(bits, with_table) for with_table in (False, True) for bits in BITS):
        if cached.full_accuracy(SUBJECT, key) is None:
            jobs.measure_all(visitor.owner(), SUBJECT, key, "Perplexity at each width")
            return False
    return True


def _scores(key: str, whole: bool) -> tuple[Figure, Figure]:
    """Perplexity and its change against the original, on all windows or on the first."""
    origin, found = cached.origin_accuracy(SUBJECT), cached.full_accuracy(SUBJECT, key) if whole else None
    if whole and key == "[]" and origin is not None:
        return origin, origin
    return found or cached.accuracy(SUBJECT, key, WINDOWS)


def continuations(asked: Asked, whole: bool) -> None:
    """One row for each width: the beginning, what follows, bytes and perplexity."""
    with_table = st.toggle(
        "Round the table of words as well",
        key="with-table",
        help="The model has one vector for each token, and compares with the same vectors at its end: 15 % of its weights. "
        "Off, this table stays as it is, and only the layers between are rounded.",
    )
    words = cached.tokens().words
    original = _goes_on(None, with_table, asked)
    rows = []
    for bits in (None, *BITS):
        found = _goes_on(bits, with_table, asked)
        about = f"<b>{bits or 32} bits</b> {_figures(bits, with_table, whole)}"
        rows.append(_row(about, asked, words, found, original))
    st.html(f'<div class="writings">{"".join(rows)}</div>')
    lots = (
        "always the likeliest token"
        if asked.seed is None
        else f"seed {asked.seed}, the same lots for every row"
    )
    st.caption(
        f"{COUNT} tokens each, {lots}. Orange: where a row first says something else than the original, and what follows "
        f"from there. Perplexity on {_windows(whole)} of texts that it never read, Moby Dick and addresses of presidents; "
        "the change is on the same windows, with its 95 % interval."
    )


def _windows(whole: bool) -> str:
    held = cached.images(SUBJECT)
    every = len(held.test) if held else 0
    return f"all {every:,} windows" if whole else f"the first {WINDOWS} windows (all {every:,} follow)"


def _goes_on(bits: int | None, with_table: bool, asked: Asked) -> list[int]:
    return cached.continued(SUBJECT, key_of(bits, with_table), asked.beginning.numbers, COUNT, asked.seed)


def _row(
    about: str,
    asked: Asked,
    words: Sequence[str],
    found: list[int],
    original: list[int],
) -> str:
    same = len(list(takewhile(lambda both: both[0] == both[1], zip(found, original, strict=True))))
    begins, kept, other = (
        escape(pictures.in_line("".join(words[number] for number in part)))
        for part in (asked.beginning.numbers, found[:same], found[same:])
    )
    off = f'<span class="off">{other}</span>' if other else ""
    return (
        f'<div class="writing"><div class="width">{about}</div>'
        f'<p class="passage"><span class="given">{begins}</span>{kept}{off}</p></div>'
    )


def _figures(bits: int | None, with_table: bool, whole: bool) -> str:
    key = key_of(bits, with_table)
    size = cached.size(SUBJECT, key)
    now, change = _scores(key, whole)
    lines = [
        f"{figures.text(size.value, size.unit)} {figures.badge(size)}",
        f"perplexity {figures.text(now.value, now.unit)} {figures.badge(now)}",
    ]
    if bits is not None:
        low, high = (
            figures.text(end, scores.RELATIVE) for end in change.spread or (change.value, change.value)
        )
        lines.append(f"{figures.text(change.value, change.unit)} ({low} to {high})")
    return "<br>".join(lines)


def trap(whole: bool) -> None:
    """With and without the table of words, width by width."""
    st.subheader("The trap: the table of words", anchor=False)
    table = pd.DataFrame([_both(bits, whole) for bits in BITS])
    st.html(figures.table(table, COLUMNS))
    last = table.iloc[-1]
    st.markdown(
        f"At {BITS[-1]} bits, rounding the layers alone changes perplexity by {figures.text(last['alone'], scores.RELATIVE)}, and "
        f"rounding the table of words too by {figures.text(last['together'], scores.RELATIVE)}. The table is "
        f"{last['share']:.0%} of the weights, and every token goes through it twice: it says what a word is when it comes "
        "in, and which word it was nearest to when it goes out. That is why people who compress language models often "
        "leave it alone, and why a size without it is not the whole size."
    )


COLUMNS = {
    "width": Column("bits"),
    "body bytes": Column("file, table left alone", "B"),
    "body": Column("perplexity", "perplexity"),
    "alone": Column("more than the original", scores.RELATIVE),
    "whole bytes": Column("file, table rounded too", "B"),
    "whole": Column("perplexity", "perplexity"),
    "together": Column("more than the original", scores.RELATIVE),
}


def _both(bits: int, whole: bool) -> dict[str, float]:
    found: dict[str, float] = {"width": bits}
    for with_table, size, level, change in (
        (False, "body bytes", "body", "alone"),
        (True, "whole bytes", "whole", "together"),
    ):
        key = key_of(bits, with_table)
        now, more = _scores(key, whole)
        found |= {size: cached.size(SUBJECT, key).value, level: now.value, change: more.value}
    params = cached.original(SUBJECT).params
    sizes = {name: param.decode().numel() for name, param in params.items() if len(param.shape) > 1}
    return {**found, "share": sizes[f"{TABLE}.weight"] / sum(sizes.values())}
