"""The workbench that every technique's page stands on: tiles, controls, pictures, run button.

A page gives two functions: `still` draws what stays while a slider moves, with places for what
does not; `moving` says what is in those places, and is asked anew on every move (`live.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import streamlit as st

from engine.recipe import technique
from engine.types import Bundle, Recipe, SlimscopeError, Step, weight_layers
from pages.parts import cached, curve, jobs, knobs, live, panel, session, tiles
from pages.parts.components import hold, settled, stage
from pages.parts.footer import footer
from pages.parts.live import Look

Place = Callable[[str], None]  # draws the place of this name, filled


def heading(title: str, lead: str) -> None:
    """The page's question and, in two sentences, what to watch."""
    st.header(title, anchor=False)
    st.markdown(lead)
    if session.problem():
        st.warning(session.problem(), icon=":material/error:")


def workbench(
    name: str,
    still: Callable[[Look, Place], None],
    moving: live.Page,
    ahead: live.Foresight,
    fits: Callable[[Bundle, str], bool] | None = None,
) -> None:
    """Lay out a technique's page and keep it alive while its controls move.

    `ahead` gives what the browser may show by itself for each stop of a slider, until the server answers.
    """
    live.PAGES[name] = moving
    subject = session.subject()
    bar, top = st.container(), st.container(key="tiles")
    line = st.container(key="line")
    with st.container(key="workbench"):
        left, right = st.columns([1, 2.6], gap="medium")
    reached = jobs.reached(subject, knobs.before(name), right)
    base = None if reached is None else reached[0]
    labels = [] if base is None else [x for x, w in weight_layers(base).items() if not fits or fits(base, w)]
    if base is None or not labels:
        with bar:
            header(subject)
        if base is None:
            with left:
                _untrained(subject, knobs.before(name))
        else:
            right.info(
                "This net has no layer that this technique applies to."
                if base.arch.runs
                else "No known architecture fits these weights: how their layers are connected is not known."
            )
        return
    with left:
        layer = st.selectbox(
            "Layer in the pictures",
            labels,
            key=f"layer-{name}-{subject}",
            help="Which layer the pictures show; the step works on all of them.",
        )
    slot, foot = top.empty(), st.container()
    slot.html(tiles.header(subject, wait=True))
    with right:
        _draw(still, name, subject, layer)

    drawn = True  # the whole page is, not this fragment by itself

    @st.fragment
    def controls() -> None:
        """The panel, and what follows it: drawn again by itself after an edit."""
        nonlocal drawn
        redraw()
        panel.draw(name, base)
        stage(_said(name, base, subject, layer, ahead if drawn else None), "stage")
        drawn = False

    @st.fragment
    def rest() -> None:
        """What need not follow at once: drawn again when the browser has all figures of a move."""
        redraw()
        with bar:
            strip()
        with foot:
            footer(subject)
        settled(live.late(session.owner(), subject, session.recipe().live.key))
        jobs.wake()

    with left:
        controls()
        st.html('<div data-live="notes"></div>')
        knobs.membership(name)
    slot.html(tiles.header(subject))
    with line:
        curve.draw(subject, name, base)
    rest()


def _draw(still: Callable[[Look, Place], None], name: str, subject: str, layer: str) -> None:
    """What stays, with the places filled; a section that cannot be drawn says why, below the others."""
    try:
        with st.spinner("Working it out ...", show_time=True):  # seen only where it takes its time
            places = _answer(name, subject, layer)["html"]
    except cached.Pending as pending:
        jobs.whole_card(subject, pending.recipe)
        return
    except SlimscopeError as error:
        st.error(
            f"{error}. There is nothing to draw: change the setting, press a preset, or take the step out (in its "
            "menu above).",
            icon=":material/error:",
        )
        return
    try:
        still(
            live.look(subject, *knobs.shown(name), layer),
            lambda place: st.html(f'<div data-live="{place}">{places.get(place, "")}</div>'),
        )
    except SlimscopeError as error:
        st.error(str(error), icon=":material/error:")


def _untrained(subject: str, recipe: Recipe) -> None:
    """The controls of the step that a recipe waits for: they can be set before it is trained."""
    try:
        cached.after(subject, recipe.key)
    except cached.Untrained as missing:
        step = missing.recipe.steps[-1].technique
        st.markdown(f"**{technique.get(step).title}**")
        panel.draw(step, cached.original(subject))
        knobs.membership(step)
    except SlimscopeError:
        return  # said beside it


def _answer(name: str, subject: str, layer: str) -> dict[str, Any]:
    return live.answer(subject, *knobs.shown(name), layer, knobs.find(name) is not None)


def _said(name: str, base: Bundle, subject: str, layer: str, ahead: live.Foresight | None) -> dict[str, Any]:
    """What moves, as it is now, and the question that the browser asks while a slider of this page moves.

    With `ahead`, the whole page was drawn: the browser also gets what it may show by itself.
    """
    question = _question(name, base, subject, layer)
    try:
        answer = _answer(name, subject, layer)
    except SlimscopeError:
        if ahead is None:
            st.rerun()  # nothing of what the page shows holds any more
        # What is wrong is said where the pictures would be.
        return {
            "key": "",
            "marks": {},
            "html": {"notes": ""},
            "tiles": {},
            "pending": [],
            "ask": question,
            "drawn": True,
        }
    if ahead is not None:
        seen = live.look(subject, *knobs.shown(name), layer)
        for setting, control in question["controls"].items():
            control["ahead"] = live.foreseen(seen, ahead, setting, control["stops"])
    return {**answer, "ask": question, "drawn": ahead is not None}


def _question(name: str, base: Bundle, subject: str, layer: str) -> dict[str, Any]:
    """What the browser asks: it writes the panel's settings into the recipe.

    A slider that moves adds the step, or switches it on.
    """
    whole, at = knobs.shown(name)
    step = whole.steps[at]
    moved = Recipe((*whole.steps[:at], Step(step.technique, step.settings), *whole.steps[at + 1 :]))
    known = session.draft_of(name, step.settings)
    return {
        "name": name,
        "subject": subject,
        "layer": layer,
        "recipe": json.loads(moved.key),
        "at": at,
        "in_recipe": True,
        "base": known.base,
        "version": known.version,
        "heard": known.heard,
        "controls": {setting: {"stops": stops} for setting, stops in panel.sliders(name, base).items()},
    }


# ---------------------------------------------------------------- the recipe


def header(subject: str) -> None:
    """The recipe and the tiles, for pages without a technique of their own, and where one can't be shown."""
    compare_and_recipe()
    st.html(tiles.header(subject))


@st.fragment
def compare_and_recipe() -> None:
    """The recipe by itself, for pages without a technique of their own."""
    redraw()
    strip()


def redraw() -> None:
    """Draw the whole page where a control in this part of it asked for that."""
    session.recipe()
    if st.session_state.pop(session.REDRAW, False):
        st.rerun()


def strip() -> None:
    """The recipe as a row of steps, each with its own small menu; undo, reset, and hold to compare."""
    recipe = session.recipe()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="strip"):
        st.markdown("**Recipe**", width="content")
        if not len(recipe):
            st.caption("empty: this is the original net", width="content")
        for i, step in enumerate(recipe):
            _chip(i, step, len(recipe))
        st.button(
            "Undo",
            on_click=_then_redraw,
            args=(session.undo,),
            disabled=not session.can_undo(),
            key="undo",
            icon=":material/undo:",
        )
        st.button(
            "Reset",
            on_click=_then_redraw,
            args=(session.put, Recipe()),
            disabled=not len(recipe),
            key="reset",
            help="Back to the original net",
        )
        hold()


def _chip(i: int, step: Step, count: int) -> None:
    known = technique.get(step.technique)
    said = session.brief(Recipe((step,))).steps[0].settings
    words = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in said.items())
    title = f"{i + 1}. {known.title}"
    menu = st.popover(
        title if step.on else f"~~{title}~~",
        key=f"step-{i}",
        help=words or "all settings at their defaults",
        on_change="rerun",
    )
    if not menu.open:
        return
    with menu:
        st.markdown(f"**{title}**" + ("" if step.on else " (switched off)"))
        st.caption(words or "all settings at their defaults")
        for icon, label, action, off in (
            ("arrow_back", "Earlier", "up", i == 0),
            ("arrow_forward", "Later", "down", i == count - 1),
            (
                "toggle_on" if step.on else "toggle_off",
                "Switch off" if step.on else "Switch on",
                "toggle",
                False,
            ),
            ("delete", "Remove", "remove", False),
        ):
            st.button(
                label,
                icon=f":material/{icon}:",
                key=f"step-{i}-{action}",
                disabled=off,
                on_click=_edit,
                args=(i, action),
                width="stretch",
            )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return f"for {len(value)} layers"
    return "/".join(value) if isinstance(value, list) else str(value)


def _edit(i: int, action: str) -> None:
    steps = list(session.recipe())
    match action:
        case "up":
            steps[i - 1 : i + 1] = [steps[i], steps[i - 1]]
        case "down":
            steps[i : i + 2] = [steps[i + 1], steps[i]]
        case "toggle":
            steps[i] = Step(steps[i].technique, steps[i].settings, not steps[i].on)
        case "remove":
            del steps[i]
    _then_redraw(session.put, Recipe(tuple(steps)))


def _then_redraw(action: Callable[..., None], *args: Any) -> None:
    st.session_state[session.REDRAW] = True
    action(*args)
