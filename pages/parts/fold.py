"""A part of a page that is worked out when it is opened."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st


def fold(title: str, key: str, draw: Callable[[], object], *, expanded: bool = False) -> None:
    """Draw a part under its title, which opens and closes it."""
    part = st.expander(title, expanded, key=f"fold-{key}", on_change="rerun")
    if part.open:
        with part:
            draw()
