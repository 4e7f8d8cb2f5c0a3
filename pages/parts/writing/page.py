"""What the visitor asks for: how the text begins, how tokens are chosen, and whether the table of words is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import streamlit as st

from engine.data.language import PLACES
from engine.data.sets import load
from engine.figures import continuing
from engine.figures.continuing import Beginning
from engine.net import zoo
from engine.types import SlimscopeError
from pages.parts import cached, figures, session

NAME, DATA = "glass-en", "language"
FIRST = "Alice was beginning to get very tired of"
COUNT = 32  # tokens that are added
LONGEST = 4000  # letters of a text that is typed
SUBJECT = cached.subject(NAME, DATA)


@dataclass(frozen=True)
class Asked:
    """A beginning, and how it goes on."""

    beginning: Beginning
    seed: int | None  # None: always the likeliest token


def introduction() -> None:
    """What this model is, honestly, and how to take it along."""
    known = zoo.card(NAME)
    read = known["published"]["training tokens"]
    left, right = st.columns([5, 1.3], vertical_alignment="center")
    above = (
        ""
        if session.model() == NAME
        else "The tiles above are of the model in view; from here on all is GlassLM. "
    )
    left.markdown(
        f"{above}**GlassLM is tiny**: {known['parameters']:,} parameters, where large ones have a hundred thousand times as "
        f"many. It read two books by Lewis Carroll, {read:,} tokens, and writes like it even with all its bits: grammar for half a "
        "line, sense for less. Read on for what rounding takes from that."
    )
    if session.model() != NAME:
        right.button(
            "Open it on every page",
            key="open-glass",
            icon=":material/open_in_new:",
            on_click=session.choose_model,
            args=(NAME,),
            help="Makes GlassLM the model in view, so that every page and the recipe are about it.",
            width="stretch",
        )


def ask() -> Asked:
    """The controls of the first row; what is wrong with a beginning is said below it."""
    text, how, lot = st.columns([3.2, 1.5, 0.9], vertical_alignment="bottom")
    typed = text.text_input(
        "How should it begin?",
        FIRST,
        max_chars=LONGEST,
        key="beginning",
        help="In English. The model goes on from here, token by token; a token is a piece of a word.",
    )
    drawn = how.segmented_control(
        "The next token",
        ("likeliest", "drawn"),
        default="drawn",
        required=True,
        key="choosing",
        help="Always the likeliest one, or drawn by lot: the likelier a token, the more often. Each model gets the same lots.",
    )
    seed = lot.number_input(
        "Seed",
        0,
        9999,
        1,
        key="writing-seed",
        disabled=drawn != "drawn",
        help="Fixes the lots: the same seed gives the same texts again.",
    )
    return Asked(begun(typed), int(seed) if drawn == "drawn" else None)


def begun(typed: str) -> Beginning:
    """The beginning as the model reads it; a sentence says what was done to it."""
    most = PLACES - COUNT
    try:
        found = continuing.beginning(typed.strip(), cached.tokens(), most)
    except SlimscopeError:
        st.caption(f"An empty beginning gives the model nothing to go on from, so it starts with “{FIRST}”.")
        return continuing.beginning(FIRST, cached.tokens(), most)
    said(found)
    return found


def said(found: Beginning) -> None:
    """What the model does not see of a text."""
    if found.cut:
        st.html(
            f'<p class="caption">The model reads {PLACES} tokens at once, so what is struck out was cut off: '
            f"<s>{escape(shortened(found.cut))}</s></p>"
        )
    if found.strange:
        letters = " ".join(found.strange[:12]) + (" ..." if len(found.strange) > 12 else "")
        st.html(
            figures.caption(
                f"These signs are not in its vocabulary, and it reads each as ⁇: {letters}. It learned from two English "
                "books and knows no other language."
            )
        )


def shortened(text: str, most: int = 240) -> str:
    """The end of a long text.

    >>> shortened("abcdef", 4)
    '... cdef'
    """
    return text if len(text) <= most else f"... {text[-most:]}"


def first_test_text() -> str:
    """A passage of the task, for who types nothing."""
    return cached.tokens().decode(load(DATA).test.images[0].tolist())
