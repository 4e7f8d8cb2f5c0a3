"""The layer in view: chosen on any page, shown on all."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts import session


def choose(label: str, count: int | None = None) -> None:
    """Look at this layer of the model in view, on every page; `count` is the number of a picture's own choices."""
    st.session_state.setdefault("layers", {})[session.model()] = label
    st.session_state["layer-turn"] = turn() + 1 if count is None else max(count, turn())


def turn() -> int:
    """How many choices of a layer the server has heard of: an answer to an older one undoes no newer one."""
    return int(st.session_state.get("layer-turn", 0))


def among(labels: Sequence[str], first: str = "") -> str:
    """The layer to show of these: the one that was chosen, its first part where it was split, or the `first`."""
    wanted, first = st.session_state.get("layers", {}).get(session.model()), first or next(iter(labels), "")
    if wanted is None or wanted in labels:
        return wanted or first
    parts = (label for label in labels if label.startswith(f"{wanted}.") or wanted.startswith(f"{label}."))
    return next(parts, first)
