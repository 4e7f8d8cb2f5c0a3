"""What this visitor has in hand: URL <-> model, recipe and the step that a page tries.

The session is the truth while a page is open; the URL is written after every change, so that a
copied link restores model, recipe, page and what the page tries in another browser.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from engine.jobs import openings
from engine.net import zoo
from engine.recipe import starts, technique
from engine.recipe.knobs import Slider, Toggle
from engine.types import Recipe, SlimscopeError, Step
from pages.parts import cached, draft, link, visitor
from pages.parts.draft import Draft, Trial, Work
from pages.parts.story import place
from pages.parts.story.place import Place

DEFAULT_MODEL = "lenet-300-100"
HISTORY = 100
REDRAW = "redraw"  # set where a change alters the charts that are drawn once
# Model, recipe, data of a file, what is tried, where in the recipe; of the story: chapter, presented.
OF_LINK = "mrdtasp"


def start() -> None:
    """Take over what the URL says, at the session's start and where the browser went back or forward."""
    state, url = st.session_state, st.query_params
    visitor.start()
    state.setdefault("drafts", {})
    state.setdefault("base", uuid.uuid4().hex)
    state.setdefault("history", [])
    said = {name: url.get(name) for name in OF_LINK}
    if "work" in state and not (_went_back() and said["r"] is not None):
        return
    state["problem"] = None
    name = said["m"] or next(iter(cached.given()), DEFAULT_MODEL)
    if name not in zoo.trained() and not name.startswith(("file-", "user-")):
        state["problem"] = f"Model {name[:60]!r} is not known here; showing {DEFAULT_MODEL}."
        name = DEFAULT_MODEL
    new = Work(name) if "work" not in state else replace(state["work"], model=name)
    found = _read("The recipe in this link", link.read, said["r"])
    state["work"] = new if said["r"] is None else new.keep(found or Recipe())
    state["told"] = said if said["r"] is not None else None
    _read_story(said["s"], said["p"])
    visitor.hear(said["d"] or "")


def _read(what: str, read: Callable[[str], Any], text: str | None) -> Any:
    """What a part of the link says; None where it says nothing, or nothing that can be read."""
    try:
        return None if text is None else read(text)
    except SlimscopeError as error:
        st.session_state["problem"] = f"{what} could not be read: {error}"
        return None


def _read_story(chapter: str | None, presented: str | None) -> None:
    state = st.session_state
    found, problem = place.read(chapter, presented)
    state["story"] = replace(found, guesses=state["story"].guesses if "story" in state else {})
    if problem:
        state["problem"] = f"{state['problem'] or ''} {problem}".strip()


def look_at(name: str, tells: bool = False) -> None:
    """The page that is drawn is about this technique; "" where it is about the recipe as it is.

    It `tells` the story, or its link has nothing of it.
    """
    state = st.session_state
    state["focus"], state["tells"], said = name, tells, state.pop("told", None)
    if said is not None and name:
        found = _read(
            "What this link tries", lambda text: link.read_trial(text, said["a"], name), said["t"] or None
        )
        place = draft.find(recipe(), name)
        if found is None and place is not None:  # the link says no more: it is about the recipe's own step
            found = Trial(Step(name, recipe().steps[place].settings), True, place)
        if found is not None:
            state["work"] = state["work"].attempt(found)
    write()


def has_begun() -> bool:
    """Whether `start` came to its end in this session once."""
    return "work" in st.session_state


def _went_back() -> bool:
    """Whether this run follows the browser's own back or forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def model() -> str:
    """The id of the model in view: a zoo name, or `file-` and a fingerprint."""
    return str(st.session_state["work"].model)


def subject() -> str:
    """Model and the data it is judged by, as one cache key."""
    return cached.subject(model(), visitor.scaling())


def problem() -> str | None:
    """What was wrong with the link, if anything."""
    return st.session_state.get("problem")


# ---------------------------------------------------------------- the recipe, and what the page tries


def recipe() -> Recipe:
    """The recipe that was kept for the model in view, complete: every default is written in it."""
    return technique.complete(work().recipes.get(model(), starts.recipe(model())))


def focus() -> str:
    """The technique that the page in view is about; "" where there is none."""
    return str(st.session_state.get("focus", ""))


def trial(name: str) -> Trial:
    """What is tried of a technique on the model in view: at first its defaults, alone where that shows something."""
    known = work().trials.get((model(), name))
    if known is not None:
        return known
    place = draft.find(recipe(), name)
    if name != focus() and is_inside() and place is not None:  # a section's own step of the recipe
        return Trial(Step(name, recipe().steps[place].settings), True)
    return Trial(openings.opening(model(), name), technique.get(name).mends)


def is_inside() -> bool:
    """Whether the page shows its step in the recipe; a page without a technique shows the recipe."""
    return not focus() or trial(focus()).inside


def attempt(name: str, settings: Mapping[str, Any]) -> None:
    """Try other settings of a technique; the recipe stays. Raises SettingError for one that is not allowed."""
    now = trial(name)
    checked = technique.get(name).check({**now.step.settings, **settings})
    change(
        work().attempt(replace(now, step=Step(name, checked))),
        f"{technique.get(name).title}: {', '.join(settings)}",
    )


def show_inside(inside: bool) -> None:
    """Show the page's step in the recipe, or alone against the original."""
    now = trial(focus())
    change(work().attempt(replace(now, inside=inside)), "alone or in the recipe")
    st.session_state[REDRAW] = True


def open_step(place: int) -> str:
    """Edit a step of the recipe where it stands: its technique's page shows it so. The page's name."""
    step = recipe().steps[place]
    change(work().attempt(Trial(Step(step.technique, step.settings), True, place)), "opening a step")
    return technique.get(step.technique).page


def story() -> Place:
    """Where the visitor is in the guided story."""
    found: Place = st.session_state["story"]
    return found


# ---------------------------------------------------------------- what the browser edits


def base() -> str:
    """Who this session is for scripts in the browser: what they number for another one counts for nothing."""
    return str(st.session_state["base"])


def panel_key(name: str) -> str:
    """The widget key of a technique's panel."""
    return f"panel-{name}"


def draft_of(name: str, settings: Mapping[str, Any]) -> Draft:
    """The draft of a technique's panel, which has these settings from now on."""
    drafts: dict[str, Draft] = st.session_state["drafts"]
    known = drafts.get(name) or Draft(st.session_state["base"], dict(settings))
    drafts[name] = known if known.settings == settings else known.press(settings)
    return drafts[name]


def work() -> Work:
    """All that is in hand, with every edit that has come in."""
    for name in list(st.session_state["drafts"]):
        _take(name)
    found: Work = st.session_state["work"]
    return found


def _take(name: str) -> None:
    """Take the edits that a panel reports, where they are new."""
    state = st.session_state
    known: Draft = state["drafts"][name]
    new = known.take((state.get(panel_key(name)) or {}).get("edits"))
    if new is known:
        return
    changed = {key: value for key, value in new.settings.items() if value != known.settings[key]}
    state["drafts"][name] = new
    try:
        attempt(name, changed)
    except SlimscopeError as error:
        state["problem"], state[REDRAW] = str(error), True
        state["drafts"][name] = new.press(known.settings)
        return
    kinds = technique.get(name).knobs
    moved = all(isinstance(kinds[key], Slider | Toggle) and not kinds[key].redraws for key in changed)
    whole, place = draft.seen(recipe(), trial(name))
    if not moved or name != focus() or any(technique.get(s.technique).trains for s in whole.steps[place:]):
        state[REDRAW] = True  # other charts; or what was trained is no longer what the recipe says


# ---------------------------------------------------------------- changes that can be taken back


def choose_model(name: str) -> None:
    """Look at another model, with the recipe that was kept for it, or the one that it starts with."""
    change(replace(work(), model=name), "another model")


def open_file(name: str) -> None:
    """Look at a file that was just brought as it is: the first figures are its own."""
    change(replace(work(), model=name).keep(Recipe()), "opening a file")


def reload(name: str) -> None:
    """Go on with the recipe in hand on another state of the same model."""
    change(replace(work(), model=name).keep(recipe()), "reading the code again")


def put(new: Recipe) -> None:
    """Make `new` the recipe, completed and checked."""
    new = technique.complete(new)
    if new != recipe():
        change(work().keep(new), "the recipe")


def rearrange(order: list[int]) -> None:
    """Give the recipe's steps another order, or leave some out; what pages try stays with the step it stands for."""
    new = technique.complete(Recipe(tuple(recipe().steps[i] for i in order)))
    change(work().moved(order).keep(new), "the recipe")


def remove_file() -> None:
    """Take the file in view out of the list, and look at what was in view before."""
    state, name = st.session_state, model()
    visitor.drop_file(name)
    state["history"] = [entry for entry in state["history"] if entry[0].model != name]
    state["work"] = state["history"].pop()[0] if state["history"] else Work(DEFAULT_MODEL)
    state["problem"] = None


def undo() -> None:
    """Back to what was in hand before the last change, of the model, the recipe or what a page tries."""
    work()  # with every edit that has come in: it is what is taken back
    if st.session_state["history"]:
        st.session_state["work"] = st.session_state["history"].pop()[0]
        write()


def undoes() -> str:
    """What `undo` would take back; "" where there is nothing."""
    return st.session_state["history"][-1][1] if st.session_state["history"] else ""


def change(new: Work, words: str) -> None:
    """Have something else in hand from now on; `words` name the change where it can be taken back."""
    state = st.session_state
    state["history"] = [*state["history"], (state["work"], words)][-HISTORY:]
    state["work"], state["problem"] = new, None
    write()


def write() -> None:
    """Tell the browser the link of what is in hand."""
    state, is_file = st.session_state, model() not in zoo.ENTRIES
    of_file = (visitor.scaling() or visitor.suggested() or None) if is_file else None
    tried = link.written_trial(trial(focus())) if focus() else (None, None)
    told = story().written() if state.get("tells") else (None, None)
    written = (model(), link.written(recipe()), of_file, *tried, *told)
    before, state["written"] = state.get("written"), written
    # A request may say a link of before the one that it was told last: what changes is told in any case.
    if before != written or tuple(st.query_params.get(name) for name in OF_LINK) != written:
        kept = {name: text for name, text in zip(OF_LINK, written, strict=True) if text is not None}
        st.query_params.from_dict(kept)
