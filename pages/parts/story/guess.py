"""Predict, then reveal: a guess before the answer is shown; then it stands beside the answer."""

from __future__ import annotations

import streamlit as st

from pages.parts.story.chapters import Asked
from pages.parts.story.told import interval, percent

NEAR = 0.0005  # a guess that is off by less is as exact as the slider lets it be


def key(chapter: str) -> str:
    return f"guess-{chapter}"


def draw(chapter: str, asked: Asked) -> None:
    """The slider of the guess, in per cent."""
    low, fine = 100 * asked.lowest, asked.lowest > 0
    st.slider(
        asked.question,
        low,
        100.0,
        100 * asked.start,
        0.1 if fine else 1.0,
        "%.1f %%" if fine else "%.0f %%",
        key=key(chapter),
        help="Nothing depends on it; it stands beside the answer afterwards.",
    )


def made(chapter: str, asked: Asked) -> float:
    """Where the slider of the guess stands, as a share."""
    return round(st.session_state.get(key(chapter), 100 * asked.start) / 100, 4)


def beside(guess: float, asked: Asked) -> str:
    """The guess beside the answer, and by how much it was off.

    >>> answer = {"value": 0.7685, "low": 0.7601, "high": 0.7767, "n": 10_000}
    >>> beside(0.9, Asked("", 0, 0.5, answer))
    'You guessed **90 %**. It is **76.85 %** (76.01 to 77.67, n = 10,000): 13.2 points too high.'
    """
    off = guess - asked.answer["value"]
    words = f"{abs(100 * off):.1f} points too {'high' if off > 0 else 'low'}"
    said = "right to the digit" if abs(off) < NEAR else words
    found = f"**{percent(asked.answer)}** ({interval(asked.answer)})"
    return f"You guessed **{100 * guess:.4g} %**. It is {found}: {said}."
