"""The recipe's step that a page is about: where it stands, and buttons that change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from engine.recipe import technique
from engine.types import Bundle, Recipe, SlimscopeError, Step
from pages.parts import draft, panel, session
from pages.parts.components import stage


def find(name: str) -> int | None:
    """Position of the last step of this technique in the recipe."""
    return draft.find(session.recipe(), name)


def current(name: str) -> Step:
    """The step that a page edits: the recipe's own, or one with the defaults."""
    return draft.current(session.recipe(), name)


def shown(name: str) -> tuple[Recipe, int]:
    """The recipe with the step that a page edits, and the step's position: where none is in it, a preview."""
    whole = session.recipe()
    if draft.find(whole, name) is None:
        whole = draft.insert(whole, technique.step(name))
    place = draft.find(whole, name)
    assert place is not None
    return whole, place


def before(name: str) -> Recipe:
    """The live part of the recipe that comes before the step that a page edits."""
    whole, place = shown(name)
    return Recipe(whole.steps[:place]).live


def through(name: str) -> Recipe:
    """The live part of the recipe up to the page's step, which is switched on even where the recipe has it off."""
    step = current(name)
    return before(name).then(Step(step.technique, step.settings))


def foresee(name: str, bundle: Bundle, setting: str, shares: Callable[[float], list[list[float]]]) -> None:
    """Let the browser move bars (`pictures.mirrored`) under a slider, on a page whose own run answers."""
    stops = panel.sliders(name, bundle)[setting]
    control = {"stops": stops, "ahead": {"shares": [shares(stop) for stop in stops]}}
    stage({"ask": {"name": name, "controls": {setting: control}}}, f"stage-{name}")


def change(name: str, **settings: Any) -> None:
    """Put settings into the recipe's step, adding the step where there is none; the whole page is drawn again."""
    st.session_state[session.REDRAW] = True
    try:
        session.put(draft.edited(session.recipe(), name, settings))
    except SlimscopeError as error:
        st.session_state["problem"] = str(error)


def pick(name: str, setting: str, layer: str, number: int) -> None:
    """Pick a numbered part of a layer, or drop it where it is picked."""
    picks = dict(current(name).settings[setting])
    picks[layer] = sorted({*picks.get(layer, ())} ^ {number})
    change(name, **{setting: {label: numbers for label, numbers in picks.items() if numbers}})


def membership(name: str) -> None:
    """Whether the step is in the recipe, and a button that adds it."""
    place = find(name)
    if place is None:
        st.caption("A preview: this step is not in the recipe yet.")
        st.button(
            "Add to the recipe",
            key=f"add-{name}",
            on_click=change,
            args=(name,),
            type="primary",
            width="stretch",
        )
    elif not session.recipe().steps[place].on:
        st.caption("This step is switched off: the pictures are a preview.")
