"""The step that a page tries: where it stands, and buttons that change it or keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from engine.types import Bundle, Recipe, SlimscopeError, Step
from pages.parts import panel, session, view
from pages.parts.components import stage


def current(name: str) -> Step:
    """The step that a page tries."""
    return session.trial(name).step


def shown(name: str) -> tuple[Recipe, int]:
    """What the page shows with the step that it tries, and the step's position."""
    return view.of(name)


def before(name: str) -> Recipe:
    """The live part of what the page shows that comes before the step that it tries."""
    whole, place = shown(name)
    return Recipe(whole.steps[:place]).live


def through(name: str) -> Recipe:
    """The same with the step that it tries, which counts as switched on."""
    whole, place = shown(name)
    step = whole.steps[place]
    return before(name).then(Step(step.technique, step.settings))


def precompute(name: str, bundle: Bundle, setting: str, at: Callable[[float], dict[str, Any]]) -> None:
    """Let the browser answer under a slider by itself, on a page whose own run answers: shares, texts and marks."""
    stops = panel.sliders(name, bundle)[setting]
    known = [at(stop) for stop in stops]
    control = {"stops": stops, "ahead": {kind: [one[kind] for one in known] for kind in known[0]}}
    stage({"ask": {"name": name, "controls": {setting: control}}}, f"stage-{name}")


def change(name: str, **settings: object) -> None:
    """Try other settings; the whole page is drawn again."""
    st.session_state[session.REDRAW] = True
    try:
        session.attempt(name, settings)
    except SlimscopeError as error:
        st.session_state["problem"] = str(error)


def pick(name: str, setting: str, layer: str, number: int) -> None:
    """Pick a numbered part of a layer, or drop it where it is picked."""
    picks = dict(current(name).settings[setting])
    picks[layer] = sorted({*picks.get(layer, ())} ^ {number})
    change(name, **{setting: {label: numbers for label, numbers in picks.items() if numbers}})
