"""The workbench that every technique's page stands on: tiles, controls, pictures, run button.

A page gives functions: `hero` and `deeper` draw what stays while a slider moves, with places for what
does not; `update` says what is in those places, and is asked anew on every move (`live.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import streamlit as st

from engine.recipe import technique
from engine.types import Bundle, Recipe, SlimscopeError, Step, weight_layers
from pages.parts import (
    cached,
    curve,
    footer,
    jobs,
    knobs,
    layers,
    lesson,
    live,
    panel,
    session,
    strip,
    tiles,
    view,
    visitor,
)
from pages.parts.anatomy import picture
from pages.parts.components import settled, stage
from pages.parts.live import Scene

Place = Callable[[str], None]  # draws the place of this name, filled
Section = Callable[[Scene, Place], None]


@dataclass(frozen=True)
class Drawing:
    """What is looked at, and what is in each place of it now."""

    scene: Scene
    places: Mapping[str, str]

    def place(self, name: str) -> None:
        """Draw a place, which the browser fills anew while a slider moves."""
        scrolls = ' tabindex="0" role="region" aria-label="Layer by layer"' if name == "layers" else ""
        st.html(f'<div data-live="{name}"{scrolls}>{self.places.get(name, "")}</div>')


def heading(title: str, question: str, lead: str, is_second: bool = False) -> None:
    """The page's title, the switch of what it shows, what that is, the question in one line, and more of it as help.

    A second heading does not say again what is wrong with the link.
    """
    with st.container(horizontal=True, vertical_alignment="center", key="title"):
        st.header(title, anchor=False, width="content")
        if session.focus():
            strip.switch()
        strip.shows()
        strip.aside()
    st.markdown(question, help=lead)
    if not is_second:
        problem()


def problem() -> None:
    """What is wrong with the link, if anything."""
    if session.problem():
        st.warning(session.problem(), icon=":material/error:")


def workbench(
    name: str,
    hero: Section,
    update: live.Page,
    ahead: live.Precompute,
    deeper: Section = lambda scene, place: None,
    fits: Callable[[Bundle, str], bool] | None = None,
    may_leave: bool = False,
) -> None:
    """Lay out a technique's page and keep it alive while its controls move.

    A step that `may_leave` layers as they are is first shown at one that it changes.

    `hero` draws the picture of the first screen and `deeper` what the first tab holds, both with places for
    what moves; `ahead` gives what the browser may show by itself for each stop of a slider.
    """
    live.PAGES[name] = update
    subject = session.subject()
    above, top, middle = st.container(key="above"), st.container(key="tiles"), st.container(key="workbench")
    reached = jobs.reached(subject, knobs.before(name), middle)
    base = None if reached is None else reached[0]
    labels = [] if base is None else [x for x, w in weight_layers(base).items() if not fits or fits(base, w)]
    unfit = "" if base is None or cached.is_large(subject) else technique.get(name).why_not(base)
    if base is None or not labels or unfit:
        with above:
            bar()
        top.html(tiles.header(subject))
        if base is not None:
            middle.info(
                f"{unfit or 'This model has no layer that this technique applies to'}."
                if base.arch.runs
                else "No known architecture fits these weights: how their layers are connected is not known."
            )
        return
    slot = top.html(tiles.header(subject, wait=True))
    drawn = True  # the whole page is, not this fragment by itself

    @st.fragment
    def controls() -> None:
        """The panel, and what follows it: drawn again by itself after an edit."""
        nonlocal drawn
        strip.redraw()
        panel.draw(name, base)
        stage(_said(name, base, subject, layer, ahead if drawn else None), "stage")
        drawn = False

    @st.fragment
    def rest() -> None:
        """What need not follow at once: drawn again when the browser has all figures of a move."""
        strip.redraw()
        with above:
            strip.draw(name)
        footer.draw(tabs, subject)
        settled(live.late(visitor.owner(), subject, view.now().live.key))
        jobs.wake()

    with middle:
        at_controls = st.container()
        pictures, beside = st.columns(2, gap="medium")
        below = st.container()
    with pictures:
        first = _changed(name, subject, base, labels) if may_leave else labels[0]
        layer = chooser(name, subject, labels, first)
    drawing = _draw(name, subject, layer, hero, pictures)
    if drawing is not None:
        with below:
            drawing.place(lesson.PLACE)
    tabs = footer.tabs("Go deeper")
    if drawing is not None and tabs[0].open:
        with tabs[0]:
            picture.strip(base, labels, layer)
            _section(deeper, drawing)
            st.html('<div data-live="notes"></div>')
    with at_controls:
        controls()
    slot.html(tiles.header(subject))
    with beside:
        curve.draw(subject, name, base)
    rest()


def _changed(name: str, subject: str, base: Bundle, labels: list[str]) -> str:
    """The first layer that the page's step changed when it was first seen: shown where none was chosen."""
    first: dict[tuple[str, str], str] = st.session_state.setdefault("first-layers", {})
    if (name, subject) not in first and not cached.is_large(subject):
        with suppress(SlimscopeError):
            after = cached.after(subject, knobs.through(name).key)[0].params
            before, names = base.params, weight_layers(base)
            changed = (x for x in labels if after.get(names[x]) is not before[names[x]])
            first[name, subject] = next(changed, labels[0])
    found = first.get((name, subject), labels[0])
    return found if found in labels else labels[0]


def chooser(name: str, subject: str, labels: list[str], first: str = "") -> str:
    """Which layer the pictures show: the one that was chosen last, on whatever page; else `first`."""
    key = f"layer-{name}-{subject}"
    st.session_state[key] = layers.among(labels, first)
    with st.container(key="chooser"):
        return st.selectbox(
            "Layer in the pictures",
            labels,
            key=key,
            on_change=lambda: layers.choose(st.session_state[key]),
            help="Which layer the pictures show, here and on other pages; the step works on all of them.",
            label_visibility="collapsed",
        )


def _draw(name: str, subject: str, layer: str, hero: Section, where: Any) -> Drawing | None:
    """Draw what stays of the first screen, with the places filled; None where it can't be drawn, which is said."""
    with where:
        try:
            with st.spinner("Working it out ...", show_time=True):  # seen only where it takes its time
                places = _answer(name, subject, layer)["html"]
                drawing = Drawing(live.scene(subject, *knobs.shown(name), layer), places)
        except SlimscopeError as error:
            with st.container(key="undrawn"):
                if isinstance(error, cached.Pending):
                    jobs.whole_card(subject, error.recipe)
                else:
                    st.error(
                        f"{error}. There is nothing to draw: change the setting, press a preset, or take the step out "
                        "(in its menu above).",
                        icon=":material/error:",
                    )
            return None
        _section(hero, drawing)
    return drawing


def _section(draw: Section, drawing: Drawing) -> None:
    """A part of the page that cannot be drawn says why, below the others."""
    try:
        draw(drawing.scene, drawing.place)
    except SlimscopeError as error:
        st.error(str(error), icon=":material/error:")


def _answer(name: str, subject: str, layer: str) -> dict[str, Any]:
    return live.answer(subject, *knobs.shown(name), layer)


def _said(name: str, base: Bundle, subject: str, layer: str, ahead: live.Precompute | None) -> dict[str, Any]:
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
        seen = live.scene(subject, *knobs.shown(name), layer)
        for setting, control in question["controls"].items():
            control["ahead"] = live.precomputed(seen, ahead, setting, control["stops"])
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
        "base": known.base,
        "version": known.version,
        "acknowledged": known.acknowledged,
        "controls": {setting: {"stops": stops} for setting, stops in panel.sliders(name, base).items()},
    }


def header(subject: str, tried: str = "") -> None:
    """The recipe and the tiles, for pages whose own run answers, and where a step can't be shown.

    Where what the page tries is trained, the recipe offers to keep it.
    """
    bar(tried if tried and knobs.current(tried) in view.now().steps else "")
    with st.container(key="tiles"):
        st.html(tiles.header(subject))


@st.fragment
def bar(tried: str = "") -> None:
    """The recipe by itself."""
    strip.redraw()
    strip.draw(tried)
