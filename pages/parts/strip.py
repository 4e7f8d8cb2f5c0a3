"""The state in view in words, alone or in the recipe; the recipe as a row of steps; keep, undo, reset."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from engine.recipe import starts, technique
from engine.types import Recipe, Step
from pages.parts import glossary, jobs, keeping, menu, session, spoken, view, visitor
from pages.parts.components import hold

ALONE, INSIDE = "alone", "in my recipe"
GO = "go to page"


def redraw() -> None:
    """Draw the whole page where a control in this part of it asked for that."""
    session.recipe()
    if page := st.session_state.pop(GO, ""):
        menu.go_to(page)
    if st.session_state.pop(session.REDRAW, False):
        st.rerun()


def switch() -> None:
    """Whether the page's step is seen alone against the original, or at its place in the recipe."""
    st.session_state["inside"] = INSIDE if session.is_inside() else ALONE
    st.segmented_control(
        "What the page shows",
        (ALONE, INSIDE),
        key="inside",
        required=True,
        on_change=lambda: session.show_inside(st.session_state["inside"] == INSIDE),
        label_visibility="collapsed",
        help="Alone: this step against the original. In my recipe: the same step at its place among those you kept.",
        width="content",
    )


def shows() -> None:
    """What all figures of the page describe, in one line; it follows the slider."""
    model, steps = escape(visitor.title(session.model())), spoken.state(view.now())
    before = " (your settings are not trained yet)" if view.is_as_before() else ""
    words = f'Shown: <b>{model}</b><span data-live="state">{steps}</span>{before}'
    st.html(f'<p class="shows">{words}</p>', width="stretch")


def aside() -> None:
    """Hold to compare, and what words mean."""
    hold()
    with st.popover("Glossary", key="glossary", on_change="rerun") as words:
        if words.open:
            glossary.draw()


def draw(tried: str = "") -> None:
    """The recipe as a row of steps, each with its own small menu; keep what is tried; undo, reset."""
    recipe, stale = session.recipe(), view.stale()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="strip"):
        st.markdown("**My recipe**", width="content")
        if not len(recipe):
            st.caption("empty: the original", width="content")
        for i, step in enumerate(recipe):
            _chip(i, step, len(recipe), i in stale)
        if stale:
            _run(recipe, stale)
        if tried:
            keeping.draw(tried)
        undoes = session.undoes()
        st.button(
            "",
            on_click=_then_redraw,
            args=(session.undo,),
            disabled=not undoes,
            key="undo",
            icon=":material/undo:",
            help=f"Undo: {undoes}" if undoes else "Undo: nothing to take back",
        )
        _reset(recipe)


def _run(recipe: Recipe, stale: tuple[int, ...]) -> None:
    """One button that trains what the recipe needs."""
    through = Recipe(recipe.steps[: stale[-1] + 1]).live
    job = jobs.latest("apply", recipe=through.key)
    if job is not None and not job.over:
        return st.caption(f"training {job.progress:.0%}", width="content")
    first = recipe.steps[stale[0]]
    st.button(
        f"Train it again ({jobs.estimate(first.technique, dict(first.settings))})",
        key="train-recipe",
        type="primary",
        on_click=jobs.submit,
        args=("apply", "The recipe"),
        kwargs={"recipe": through.key},
        help="A step before it has changed. Until it is trained, all figures are those of the recipe without it.",
    )


def _reset(recipe: Recipe) -> None:
    begin = starts.recipe(session.model())
    with st.popover("Reset", key="reset"):
        st.button(
            "To the original",
            on_click=_then_redraw,
            args=(session.put, Recipe()),
            disabled=not len(recipe),
            key="reset-original",
            help="An empty recipe",
            width="stretch",
        )
        if len(begin):
            st.button(
                "To the start recipe",
                on_click=_then_redraw,
                args=(session.put, begin),
                disabled=technique.complete(begin) == recipe,
                key="reset-start",
                help=", ".join(map(spoken.title, technique.complete(begin))),
                width="stretch",
            )


def _chip(i: int, step: Step, count: int, stale: bool) -> None:
    name = spoken.title(step)
    chip = st.popover(
        f"~~{name}~~" if not step.on or stale else name,
        key=f"step-{i}",
        help="It must be trained again: a step before it has changed" if stale else spoken.changed(step),
        on_change="rerun",
    )
    if not chip.open:
        return
    with chip:
        said = " (switched off)" if not step.on else " (not trained as it stands)" if stale else ""
        st.markdown(f"**{i + 1}. {name}**{said}")
        st.caption(spoken.changed(step))
        st.button(
            "Open",
            icon=":material/open_in_full:",
            key=f"step-{i}-open",
            type="primary",
            on_click=_open,
            args=(i,),
            width="stretch",
        )
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


def _open(i: int) -> None:
    """Edit a step on its page, which the next run goes to: a callback can't."""
    st.session_state[f"step-{i}"] = False
    st.session_state[GO] = session.open_step(i)


def _edit(i: int, action: str) -> None:
    steps = list(session.recipe())
    order = list(range(len(steps)))
    match action:
        case "up":
            order[i - 1 : i + 1] = [i, i - 1]
        case "down":
            order[i : i + 2] = [i + 1, i]
        case "remove":
            del order[i]
        case "toggle":
            steps[i] = Step(steps[i].technique, steps[i].settings, not steps[i].on)
            return _then_redraw(session.put, Recipe(tuple(steps)))
    _then_redraw(session.rearrange, order)


def _then_redraw(action: Callable[..., None], *args: Any) -> None:
    st.session_state[session.REDRAW] = True
    action(*args)
