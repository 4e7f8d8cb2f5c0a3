"""A text of one's own, and what both models answer to it."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from engine.data.pieces import UNKNOWN
from engine.data.samples import Data
from pages.parts import cached, charts, figures

SHOWN = 5  # classes
LONGEST = 1000  # letters


def draw(subject: str, key: str, held: Data) -> None:
    """A box for a text, how the model reads it, and the likeliest classes before and now."""
    assert held.pieces is not None
    st.subheader("A text of your own", anchor=False)
    typed = st.text_input(
        "A text",
        held.test.texts[0],
        max_chars=LONGEST,
        key=f"typed-{held.name}",
        help="In English. The one here is the first of the test set.",
    )
    if not typed.strip():
        return st.caption("An empty text has no class: type a few words.")
    places = held.test.images.shape[1]
    numbers = tuple(held.pieces.padded(typed, places))
    st.html(f'<p class="caption">{_said(held, typed, numbers)}</p>')
    ends = {"before": "[]", "now": key}
    rows = pd.DataFrame(
        {"class": held.classes, **{name: cached.shares(subject, of, numbers) for name, of in ends.items()}}
    )
    first = {name: held.classes[int(rows[name].idxmax())] for name in ends}
    st.markdown(
        f"Both models answer **{first['now']}**."
        if first["before"] == first["now"]
        else f"The original answers **{first['before']}**, this model **{first['now']}**."
    )
    best = rows.assign(most=rows[["before", "now"]].max(axis=1)).nlargest(SHOWN, "most")
    shown = {
        "class": figures.Column("class"),
        "before": figures.Column("original", "share", charts.ORIGINAL),
        "now": figures.Column("this model", "share", charts.KEPT),
    }
    st.html(figures.table(best, shown))


def _said(held: Data, typed: str, numbers: tuple[int, ...]) -> str:
    """How a text is read: its pieces, what is cut off, and what the model does not know."""
    assert held.pieces is not None
    whole, read = held.pieces.encode(typed), held.pieces.read(numbers)
    said = f"Read as {len(read)} word pieces: {escape(' '.join(read))}."
    if len(whole) > len(numbers):
        said += (
            f" The model reads {len(numbers)} at once: the text has {len(whole)}, and its end is left out."
        )
    if unknown := numbers.count(UNKNOWN):
        said += f" {unknown} of them the model does not know: its words are those of English descriptions."
    return said
