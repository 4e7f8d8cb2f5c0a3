"""A text of one's own, and what both models answer to it."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from engine.data.pieces import UNKNOWN, Pieces
from engine.data.samples import Data
from pages.parts import cached, charts, figures

SHOWN = 5  # classes
LONGEST = 20_000  # letters: what a model does not read of a text is said


def draw(subject: str, key: str, held: Data) -> None:
    """A box for a text, how the model reads it, and the likeliest classes before and now."""
    assert held.pieces is not None
    pieces, places = held.pieces, held.test.images.shape[1]
    st.subheader("A text of your own", anchor=False)
    kept: dict[str, str] = st.session_state.setdefault("typed", {})  # it stays while other tabs are open
    typed = kept[held.name] = st.text_input(
        "A text",
        kept.get(held.name, held.test.texts[0]),
        max_chars=LONGEST,
        key=f"typed-{held.name}",
        help="In English. The one here is the first of the test set.",
    )
    if not typed.strip():
        return st.caption("An empty text has no class: type a few words.")
    numbers = tuple(pieces.padded(typed, places))
    st.html(f'<p class="caption">{_said(pieces, typed, numbers)}</p>')
    before, now = (cached.shares(subject, of, numbers) for of in ("[]", key))
    names = [held.classes[i] if i < len(held.classes) else str(i) for i in range(len(before))]
    rows = pd.DataFrame({"class": names, "before": before, "now": now})
    was, is_now = (names[int(rows[column].idxmax())] for column in ("before", "now"))
    st.markdown(
        f"Both models answer **{is_now}**."
        if was == is_now
        else f"The original answers **{was}**, this model **{is_now}**."
    )
    best = rows.assign(most=rows[["before", "now"]].max(axis=1)).nlargest(SHOWN, "most")
    shown = {
        "class": figures.Column("class"),
        "before": figures.Column("original", "share", charts.ORIGINAL),
        "now": figures.Column("this model", "share", charts.KEPT),
    }
    st.html(figures.table(best, shown))


def _said(pieces: Pieces, typed: str, numbers: tuple[int, ...]) -> str:
    """How a text is read: its pieces, what is cut off, and what the model does not know."""
    whole = pieces.encode(typed)
    said = f"Read in pieces: {escape(' '.join(pieces.read(numbers)))}."
    if len(whole) > len(numbers):
        said += (
            f" The model reads {len(numbers)} at once: the text has {len(whole)}, and its end is left out."
        )
    if unknown := numbers.count(UNKNOWN):
        said += f" It does not know {unknown} of them: its vocabulary was made from English texts."
    return said
