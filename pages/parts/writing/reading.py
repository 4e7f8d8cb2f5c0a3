"""A text that the model reads: which tokens became less likely when its weights got coarse."""

from __future__ import annotations

import math

import streamlit as st
import torch

from engine.data.language import PLACES
from engine.figures import continuing
from engine.types import SlimscopeError
from pages.parts import cached
from pages.parts.pictures import tokens as pictures
from pages.parts.writing.coarse import BITS, key_of
from pages.parts.writing.page import LONGEST, SUBJECT, first_test_text, said


def draw() -> None:
    """A box for a text, the width, and the text in colours."""
    st.subheader("What it finds harder to read", anchor=False)
    text, width = st.columns([4, 1.4], vertical_alignment="bottom")
    typed = text.text_area(
        "A text",
        first_test_text(),
        height=100,
        max_chars=LONGEST,
        key="reading",
        help="Any English text. The one here is of Moby Dick, which the model never read.",
    )
    bits = width.segmented_control(
        "Bits a weight",
        BITS,
        default=3,
        required=True,
        key="reading-bits",
        help="The layers and the table of words are rounded to so many bits, in groups of 64.",
    )
    try:
        found = continuing.beginning(typed.strip(), cached.tokens(), PLACES)
        before, now = (
            torch.tensor(cached.losses(SUBJECT, key, found.numbers))
            for key in ("[]", key_of(int(bits), True))
        )
    except SlimscopeError as error:
        st.caption(f"{str(error)[:1].upper()}{str(error)[1:]}.")
        return
    said(found)
    words = cached.tokens().words
    st.html(pictures.passage([words[number] for number in found.numbers], before, now))
    worse = int((now > before).sum())
    levels = [math.exp(float(each.mean())) for each in (before, now)]
    st.caption(
        f"Orange: less likely than with 32 bits, blue: more likely; point at a token for both probabilities. {worse} of "
        f"{len(now)} tokens became less likely; the perplexity of this text is {levels[0]:,.1f} with 32 bits and "
        f"{levels[1]:,.1f} with {bits} (measured on this text alone, so without an interval)."
    )
