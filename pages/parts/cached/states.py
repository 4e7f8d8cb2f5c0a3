"""A model after a recipe, or why it is not there yet."""

from __future__ import annotations

import streamlit as st

from engine.jobs import recipes, streaming
from engine.recipe import run, technique
from engine.types import Bundle, Recipe, Report, SlimscopeError
from pages.parts.cached.subjects import images, is_bare_and_large, is_large, original, parts

UNKNOWN = "no known architecture fits these weights: they are compressed layer by layer, into their file"


class Untrained(SlimscopeError):
    """A step must be trained before what follows can be shown; `recipe` ends in that step."""

    def __init__(self, recipe: Recipe) -> None:
        step = recipe.steps[-1]
        super().__init__(f"step {len(recipe)} ({step.technique}) is not trained yet")
        self.recipe = recipe


class Pending(SlimscopeError):
    """A large model is compressed as a whole by a job first; `recipe` says how far."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__("the whole model is compressed for this, in the background")
        self.recipe = recipe


def after(subject: str, key: str) -> tuple[Bundle, tuple[Report, ...]]:
    """The bundle after all live steps with one report each; only the last step is computed anew.

    Raises Untrained, Pending for a large model, or SlimscopeError with the number of the step in front;
    none is cached.
    """
    is_whole = is_large(subject) and Recipe.from_key(key).live.steps
    return _from_job(subject, key) if is_whole else _at_once(subject, key)


def untrained(subject: str, recipe: Recipe) -> tuple[int, ...]:
    """The positions of live steps that must be trained before what follows them can be shown."""
    found: list[int] = []
    if is_bare_and_large(subject):
        return ()  # nothing is trained on it
    for place, step in enumerate(recipe):
        if step.on and technique.get(step.technique).trains:
            through = Recipe(tuple(s for i, s in enumerate(recipe.steps[: place + 1]) if i not in found))
            try:
                after(subject, through.live.key)
            except Untrained:
                found.append(place)
            except SlimscopeError:
                continue  # what is wrong with it is said where it is shown
    return tuple(found)


def fits(subject: str, recipe: Recipe) -> bool:
    """Whether a recipe can be applied, trained or not; of a large model a job finds that out."""
    if is_large(subject):
        return True
    try:
        after(subject, recipe.live.key)
    except (Untrained, Pending):
        return True
    except SlimscopeError:
        return False
    return True


def needs_whole(recipe: Recipe) -> bool:
    """Whether a step of the recipe acts on a model as a whole: one layer does not say what it does."""
    return any(technique.get(step.technique).sees_model(step.settings) for step in recipe.live)


def base(subject: str, recipe: Recipe) -> Bundle:
    """The bundle whose layers a page names after these steps; of a large model the original, where that does."""
    is_original = is_bare_and_large(subject) or (is_large(subject) and not needs_whole(recipe))
    return original(subject) if is_original else after(subject, recipe.live.key)[0]


@st.cache_resource(max_entries=96, show_spinner=False)
def _at_once(subject: str, key: str) -> tuple[Bundle, tuple[Report, ...]]:
    live = Recipe.from_key(key).live
    if not live.steps:
        return original(subject), ()
    base, reports = after(subject, Recipe(live.steps[:-1]).key)
    step = live.steps[-1]
    known = technique.get(step.technique)
    try:
        if not known.trains:
            bundle, report = run.apply(base, step, images(subject))
            return bundle, (*reports, report)
        known.possible(base)
    except SlimscopeError as error:
        raise type(error)(f"step {len(live)} ({step.technique}): {error}") from error
    model, spec = parts(subject)
    found = recipes.trained(model, live, spec)
    if found is None:
        raise Untrained(live)
    return found[0], (*reports, found[1])


@st.cache_resource(max_entries=2, show_spinner="Reading the compressed model ...")
def _from_job(subject: str, key: str) -> tuple[Bundle, tuple[Report, ...]]:
    """What a job made of a large model; of a trained step that nothing follows, the last report only."""
    model, spec = parts(subject)
    live = Recipe.from_key(key).live
    if not spec:
        raise SlimscopeError(UNKNOWN)
    if (found := streaming.made(model, live, spec)) is not None:
        return found
    if technique.get(live.steps[-1].technique).trains:
        trained = recipes.trained(model, live, spec)
        if trained is not None:
            return trained[0], (trained[1],)
    raise _waiting(subject, key)


def _waiting(subject: str, key: str) -> Untrained | Pending:
    """Why a large model is not there yet after a recipe: a step is not trained, or a job is at it."""
    model, spec = parts(subject)
    live = Recipe.from_key(key).live
    missing = recipes.missing(model, live, spec) if spec else None
    return Pending(live) if missing is None else Untrained(missing.recipe)
