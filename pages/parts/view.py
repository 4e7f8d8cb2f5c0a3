"""What the page in view shows: a recipe that all its figures describe, of what was kept and what is tried."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from engine.recipe import technique
from engine.types import Recipe, Step
from pages.parts import cached, draft, session


def of(name: str) -> tuple[Recipe, int]:
    """What a page or a section shows: a recipe with the step that it tries, and the step's position.

    Of the other steps those are left out that must be trained first.
    """
    if name == session.focus():
        whole, place = draft.seen(session.recipe(), session.trial(name))
    else:
        whole, place = draft.placed(_page(), session.trial(name))
    gone = [i for i in cached.untrained(session.subject(), whole) if i != place]
    return _without(whole, gone), place - sum(i < place for i in gone)


def _page() -> Recipe:
    """What the whole page is about, trained or not."""
    name = session.focus()
    return draft.seen(session.recipe(), session.trial(name))[0] if name else session.recipe()


def now() -> Recipe:
    """The recipe that all tiles, pictures and files of the page in view describe: all of it is trained.

    Where what is tried is not trained, it stands as it was when it last was; where it does not fit the model,
    it is left out.
    """
    whole = _page()
    gone = cached.untrained(session.subject(), whole)
    if session.focus():
        tried = session.trial(session.focus())
        place = draft.seen(session.recipe(), tried)[1]
        if not cached.fits(session.subject(), _without(Recipe(whole.steps[: place + 1]), gone)):
            gone = (*gone, place)
        elif place not in gone:
            note_trained(session.focus(), tried.step)
        else:
            whole = draft.seen(session.recipe(), replace(tried, step=last_trained(session.focus())))[0]
            gone = cached.untrained(session.subject(), whole)
    return _without(whole, gone)


def note_trained(name: str, step: Step) -> None:
    """Remember with which settings a technique was trained last on the model in view."""
    st.session_state.setdefault("last", {})[session.model(), name] = step


def last_trained(name: str) -> Step:
    """The settings with which a technique was seen trained last; its defaults, whose result may be stored."""
    step: Step = st.session_state.get("last", {}).get((session.model(), name), technique.step(name))
    return step


def is_as_before() -> bool:
    """Whether the page shows what was trained before, as what is tried now is not trained yet."""
    tried = session.trial(session.focus()).step if session.focus() else None
    is_default = tried is None or tried == technique.step(session.focus())
    return not is_default and technique.get(session.focus()).trains and tried not in now().steps


def stale() -> tuple[int, ...]:
    """The positions of the recipe's steps that must be trained again, as the steps before them are now."""
    return cached.untrained(session.subject(), session.recipe())


def trained(whole: Recipe) -> Recipe:
    """The recipe without the steps that must be trained first."""
    return _without(whole, cached.untrained(session.subject(), whole))


def _without(whole: Recipe, gone: tuple[int, ...] | list[int]) -> Recipe:
    return Recipe(tuple(step for i, step in enumerate(whole) if i not in gone))


def kept(name: str) -> Recipe:
    """What the recipe would be with what is tried of a technique; a section that builds on its page's step brings it."""
    tried, whole = session.trial(name), session.recipe()
    if session.focus() and technique.get(session.focus()).stage < technique.get(name).stage:
        whole = draft.placed(whole, session.trial(session.focus()))[0]
    return technique.complete(draft.placed(whole, tried)[0])
