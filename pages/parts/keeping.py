"""Keep: what is tried goes into the recipe, with the whole recipe's figures before and after."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.types import Recipe, SlimscopeError
from pages.parts import cached, figures, jobs, session, tiles, view, visitor


def draw(name: str) -> None:
    """The button, and what it does to the accuracy and the file of the whole recipe."""
    now, new, subject = session.recipe(), view.kept(name), session.subject()
    fresh = set(cached.untrained(subject, new)) - {i for i, step in enumerate(new) if step in now.steps}
    if fresh:
        return _to_train(new, max(fresh))
    st.button(
        "Kept" if new == now else "Keep",
        key=f"keep-{name}",
        on_click=_keep,
        args=(name,),
        type="secondary" if new == now else "primary",
        icon=":material/check:" if new == now else ":material/add_task:",
        help="Puts this step into your recipe. The recipe is what you build up, step by step, and what you take away at the end.",
    )
    if new != now:
        shown = view.now().live.key
        before, after = _each_in_turn(subject, shown, (now, new))
        st.html(
            f'<p class="keeps" data-of="{escape(shown)}">My recipe: {before} &rarr; <b>{after}</b></p>',
            width="stretch",
        )


def _each_in_turn(subject: str, shown: str, wanted: tuple[Recipe, ...]) -> list[str]:
    """What is known of recipes. One is asked for at a time, after what the tiles show: jobs would drop each other."""
    said, is_settled = [], tiles.is_settled(subject, shown)
    for recipe in wanted:
        key = view.trained(recipe).live.key
        said.append(_said(subject, key, visitor.owner() if is_settled else ""))
        is_settled = is_settled and tiles.is_settled(subject, key)
    return said


def _keep(name: str) -> None:
    st.session_state[session.REDRAW] = True
    session.put(view.kept(name))


def _to_train(new: Recipe, place: int) -> None:
    """What is tried is trained, and would have to be trained anew where the recipe has other steps before it."""
    through = Recipe(new.steps[: place + 1]).live
    job = jobs.latest("apply", recipe=through.key)
    if job is not None and not job.over:
        return st.caption(f"Being trained in your recipe: {job.progress:.0%}.")
    step = new.steps[place]
    st.button(
        f"Train it in my recipe ({jobs.estimate(step.technique, dict(step.settings))})",
        key="train-kept",
        on_click=jobs.submit,
        args=("apply", "In my recipe"),
        kwargs={"recipe": through.key},
        width="stretch",
        help="Nothing untrained goes into a recipe: where other steps come before it, it is trained on them first.",
    )


def _said(subject: str, key: str, owner: str) -> str:
    """Accuracy and bytes of a recipe, as far as they are known."""
    if cached.is_bare_and_large(subject):
        return "known when the file is written"
    try:
        known = tiles.measured(owner, subject, key)
    except SlimscopeError as error:
        return escape(str(error))
    return ", ".join(_with_interval(tile) for tile in known if tile.figure is not None) or "not known yet"


def _with_interval(tile: figures.Tile) -> str:
    """The figure; who points at it, or goes there by keyboard, reads the interval and on how many samples.

    >>> from engine.types import Basis, Figure
    >>> half = Figure("accuracy", 0.5, "share", Basis.MEASURED, "5 of 10 right", (0.25, 0.75))
    >>> _with_interval(figures.Tile("Accuracy", half, samples="n = 10"))
    '<span class="how" tabindex="0" title="25.00 % to 75.00 %, n = 10">50.00 %</span>'
    """
    assert tile.figure is not None
    words = figures.text(tile.figure.value, tile.figure.unit)
    about = ", ".join(filter(None, (figures.interval(tile.figure), tile.samples)))
    return f'<span class="how" tabindex="0" title="{escape(about)}">{words}</span>' if about else words
