"""The story on the page: one chapter at a time, by button or key, on its page or presented in large type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import streamlit as st

from engine.papers import ingredients
from engine.recipe import technique
from engine.types import Recipe
from pages.parts import components, menu, session, strip, visitor
from pages.parts.draft import Trial
from pages.parts.frame import problem
from pages.parts.story import chapters, facts, guess, pictures, place, waterfall
from pages.parts.story.chapters import Asked, Chapter
from pages.parts.story.facts import Facts
from pages.parts.story.place import CHAPTERS, Place
from pages.parts.story.told import SHOWN

HERE = Path(__file__).parent
LONGER = 4  # the row of a record from which on bars are drawn longer
LETTERS, LARGE = 13, 20  # pixels, in a picture on the page and presented
KEYS, HEARD, CHOSEN = "story-keys", "story-heard", "story-ingredients"


def draw(subject: str) -> bool:
    """Tell the story of the model in view, or offer the model that has one; whether the page goes on below it."""
    st.html(HERE / "story.css")
    found = facts.find(subject)
    if found is None:
        _elsewhere()
        return True
    is_presented = session.story().presented
    with st.container(key="presented" if is_presented else "story"):
        problem()
        _story(found)
    return not is_presented


def _elsewhere() -> None:
    """Which model the story is told on, in one line."""
    title = visitor.title(facts.MODEL)
    with st.container(horizontal=True, vertical_alignment="center", key="story-head"):
        st.header("Start", anchor=False, width="content")
        st.markdown(f"A guided story is told on {title}; the model in view follows below.", width="stretch")
        st.button(f"Open {title}", key="story-model", on_click=session.choose_model, args=(facts.MODEL,))
    problem()


@st.fragment
def _story(found: Facts) -> None:
    """The chapter that the visitor is at: drawn again by itself when it is another."""
    strip.redraw()
    asked = chapters.asked(found.told)
    _hear(asked)
    here = session.story()
    chosen = st.session_state.get(CHOSEN, ingredients.OWN)
    told = chapters.tell(here.chapter, found, here.guesses.get(here.chapter), chosen)
    _head(found, here)
    st.subheader(told.question, anchor=False)
    picture, files = st.columns([1.1, 1], gap="medium")
    with picture:
        with st.container(key="story-picture"):
            _picture(told, here)
        with st.container(key="story-words"):
            if here.asks:
                guess.draw(here.chapter, asked[here.chapter])
            else:
                _seen(told, here, asked)
        _foot(here, asked)
    with files:
        if here.chapter == "record":
            _ingredients()
            bars = found.record.bars(chosen)
            st.html(waterfall.html(bars, [bar.step for bar in bars], enlarged=LONGER))
        else:
            seen = [step for step, chapter in SHOWN.items() if here.has_told(chapter)]
            now = [step for step, chapter in SHOWN.items() if chapter == here.chapter]
            st.html(waterfall.html(found.told.bars(chapters.STEPS), seen, now))
        if not here.asks:
            st.markdown(f":material/warning: **Trap:** {told.trap}")
    step = f"Chapter {here.number} of {len(CHAPTERS)}, {chapters.TITLES[here.chapter]}. {told.question}"
    _listen(here, f"{step} {'' if here.asks else told.see}".strip())


def _head(found: Facts, here: Place) -> None:
    """The title, the way into the presentation and out of it, and the chapters as buttons."""
    with st.container(horizontal=True, vertical_alignment="center", key="story-head"):
        st.header("Start", anchor=False, width="content")
        goal = f"Make {visitor.title(facts.MODEL)} **{found.told.goal} times smaller**, in {len(CHAPTERS)} steps."
        st.markdown(f"{goal} The arrow keys turn the pages.", width="stretch")
        st.button(
            "Leave" if here.presented else "Present",
            key="present",
            icon=":material/close_fullscreen:" if here.presented else ":material/slideshow:",
            on_click=_turn,
            args=(lambda now: replace(now, presented=not now.presented),),
            help="Escape leaves it, too"
            if here.presented
            else "Large type, no menu; arrow keys turn the pages",
        )
    with st.container(horizontal=True, key="story-chapters"):
        for number, (name, title) in enumerate(chapters.TITLES.items(), 1):
            st.button(
                f"{number} {title}",
                key=f"chapter-{name}",
                type="primary" if name == here.chapter else "secondary",
                on_click=_turn,
                args=(lambda now, to=name: replace(now, chapter=to),),
            )


def _picture(told: Chapter, here: Place) -> None:
    if isinstance(told.picture, str):
        st.html(told.picture)
        return
    st.plotly_chart(
        pictures.fitted(told.picture, LARGE if here.presented else LETTERS),
        key=f"story-{here.chapter}",
        height="stretch",
        config={"displayModeBar": False},
        alt=told.alt,
    )


def _ingredients() -> None:
    """Switches for what the record is made with, and for what it could be."""
    st.pills(
        "Ingredients: switch any of them off, or another on",
        ingredients.ALL,
        selection_mode="multi",
        default=ingredients.OWN,
        format_func=chapters.ingredient,
        key=CHOSEN,
        help="Each choice is a recipe of its own, trained, written, decoded and measured: 64 in all.",
    )


def _seen(told: Chapter, here: Place, asked: Mapping[str, Asked]) -> None:
    """The guess beside the answer, and what is to be seen."""
    if here.chapter in here.guesses:
        st.markdown(guess.beside(here.guesses[here.chapter], asked[here.chapter]))
    st.markdown(told.see)


def _foot(here: Place, asked: Mapping[str, Asked]) -> None:
    """Back, next, and where to go on from here."""
    with st.container(horizontal=True, vertical_alignment="center", key="story-foot"):
        st.button(
            "Back",
            key="story-back",
            icon=":material/arrow_back:",
            disabled=here.number == 1,
            on_click=_turn,
            args=(Place.back,),
        )
        st.button(
            "Show the answer" if here.asks else "Next",
            key="story-next",
            type="primary",
            icon=":material/arrow_forward:",
            disabled=here.number == len(CHAPTERS),
            on_click=_turn,
            args=(lambda now: now.forward(_standing(asked)),),
            help="The right arrow key does the same",
        )
        page = chapters.page(here.chapter)
        if st.button(page.words, key="story-open", type="tertiary", icon=":material/open_in_new:"):
            _visit(page.recipe)
            menu.go_to(page.name)


# ---------------------------------------------------------------- going on


def _turn(to: Callable[[Place], Place]) -> None:
    _go(to(session.story()))


def _go(to: Place) -> None:
    """Go to a place of the story; the whole page changes where it is presented from now on, or no longer."""
    if to.presented != session.story().presented:
        st.session_state[session.REDRAW] = True
    st.session_state["story"] = to
    session.write()


def _visit(whole: Recipe) -> None:
    """Try what a chapter shows: its only step alone, or the last of its steps in its recipe, which is kept."""
    st.session_state["story"] = replace(session.story(), presented=False)
    last = len(whole) - 1
    tried = Trial(whole.steps[last], last > 0, last if last else None)
    work = session.work().keep(technique.complete(whole)) if last else session.work()
    session.change(work.attempt(tried), "a chapter of the story")


def _standing(asked: Mapping[str, Asked]) -> dict[str, float]:
    """The guesses as their sliders stand."""
    return {name: guess.made(name, each) for name, each in asked.items()}


def _hear(asked: Mapping[str, Asked]) -> None:
    """Go where the keys lead that the browser reports."""
    state, here = st.session_state, session.story()
    message = (state.get(KEYS) or {}).get("pressed")
    there, heard = place.hear(here, state.get(HEARD, 0), message, _standing(asked), session.base())
    state[HEARD] = heard
    if there != here:
        _go(there)
        strip.redraw()


def _listen(here: Place, words: str) -> None:
    """Take keys in the browser, and say there for who can't see it where the story is."""
    message = {"base": session.base(), "heard": st.session_state[HEARD], "presented": here.presented}
    components.story_keys({**message, "said": words.replace("**", "")}, KEYS)
