"""What every page has below its pictures, in three tabs: go deeper, what changed, ship it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from engine.types import SlimscopeError
from pages.parts import as_onnx, cached, changed, faster, integers, ship, view, visitor, whole

CHANGED, SHIP = "What changed", "Ship it"


def tabs(first: str = "Go deeper") -> Sequence[Any]:
    """The tabs, of which only the open one is worked out; the page itself fills the first."""
    return st.tabs([first, CHANGED, SHIP], on_change="rerun", key="footer")


def draw(three: Sequence[Any], subject: str) -> None:
    """What the open tab holds, where it is not the first."""
    key, (_, answers, file) = view.now().live.key, three
    if not (answers.open or file.open):
        return
    with answers if answers.open else file:
        if cached.is_bare_and_large(subject):
            return whole.section(subject, key)
        try:
            cached.counted(subject, key) if cached.is_large(subject) else cached.after(subject, key)
        except cached.Pending:
            return whole.pending(subject, key)
        except SlimscopeError as error:
            return st.info(str(error))
        if file.open:
            _ship(subject, key)
        elif visitor.why_idle():
            st.info(visitor.why_idle())
        else:
            changed.draw(subject, key)


def _ship(subject: str, key: str) -> None:
    ship.take_away(subject, key)
    as_onnx.section(subject, key)
    integers.section(subject, key)
    st.subheader("Is it faster here?", anchor=False)
    if visitor.why_idle():
        st.info(visitor.why_idle())
    else:
        faster.draw(subject, key)
    st.subheader("Size ledger", anchor=False)
    ship.ledger(subject, key)
