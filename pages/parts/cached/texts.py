"""What models make of texts that a visitor types."""

from __future__ import annotations

import streamlit as st
import torch

from engine.data import language
from engine.data.sets import ASSETS
from engine.data.tokens import Tokens
from engine.figures import continuing
from engine.net import zoo
from pages.parts.cached.states import after


def tokens() -> Tokens:
    """The vocabulary of the zoo's language model."""
    return language.vocabulary(ASSETS / "data" / "language")


@st.cache_data(max_entries=256, show_spinner=False)
def continued(subject: str, key: str, numbers: tuple[int, ...], count: int, seed: int | None) -> list[int]:
    """The next tokens, as the model after this recipe says them."""
    return continuing.continued(zoo.build(after(subject, key)[0]), numbers, count, seed)


@st.cache_data(max_entries=256, show_spinner=False)
def losses(subject: str, key: str, numbers: tuple[int, ...]) -> list[float]:
    """Of each token but the first, in nat."""
    return continuing.losses(zoo.build(after(subject, key)[0]), numbers)


@st.cache_data(max_entries=256, show_spinner=False)
def shares(subject: str, key: str, numbers: tuple[int, ...]) -> list[float]:
    """The share that the model after this recipe gives to each class, of one text."""
    with torch.inference_mode():
        scores: torch.Tensor = zoo.build(after(subject, key)[0])(torch.tensor([numbers]))
    return scores[0].softmax(0).tolist()
