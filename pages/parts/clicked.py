"""A click on a point of a chart makes its recipe the visitor's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from engine.recipe import migrate
from pages.parts import session


def take(event: Any, recipes: Sequence[str]) -> None:
    """Take over the recipe of the point that was clicked, once for each click.

    `event` is what `st.plotly_chart` returned; a point's `customdata` is its place in `recipes`.
    """
    picked = event.selection.points if event else []
    place = picked[0].get("customdata") if picked else None
    key = "" if place is None else recipes[int(place[0] if isinstance(place, list | tuple) else place)]
    if st.session_state.get("clicked", "") == key:
        return
    st.session_state["clicked"] = key
    if key:
        session.put(migrate.read(key))
        st.rerun()
