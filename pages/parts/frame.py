"""The workbench that every technique's page stands on: tiles, controls, pictures, run button.

A page gives two functions: `still` draws what stays while a slider moves and returns the places
for what does not; `moving` fills those places on every move. Both get a `Look`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import streamlit as st
from torch import Tensor

from engine import technique
from engine.surgery import weight_layers
from engine.types import Bundle, Recipe, Report, SlimscopeError, Step
from pages.parts import cached, figures, knobs, session
from pages.parts.components import hold
from pages.parts.figures import Tile
from pages.parts.footer import footer
from pages.parts.jobs import run_card

Places = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What a page shows: the bundle before and after its step, the step's report, and the chosen layer."""

    subject: str
    step: Step
    before: Bundle
    after: Bundle
    report: Report
    layer: str

    @property
    def weight(self) -> Tensor:
        """The chosen layer's weight as it enters the step."""
        return self.before.params[weight_layers(self.before)[self.layer]].decode()

    @property
    def row(self) -> dict[str, Any]:
        """The report's row about the chosen layer; empty where the step leaves it alone."""
        rows = self.report.tables["layers"]
        found = rows[rows["layer"] == self.layer].to_dict("records")
        return found[0] if found else {}


def heading(title: str, lead: str) -> None:
    """The page's question and, in two sentences, what to watch."""
    st.header(title, anchor=False)
    st.markdown(lead)
    if session.problem():
        st.warning(session.problem(), icon=":material/error:")


def workbench(
    name: str, still: Callable[[Look], Places], moving: Callable[[Look, Places], None], filter: Any = None
) -> None:
    """Lay out a technique's page and keep it alive while its controls move."""
    subject = session.subject()
    top = st.container()
    left, right = st.columns([1, 2.6], gap="medium")
    try:
        base, _ = cached.after(subject, knobs.before(name).key)
    except cached.Untrained as missing:
        return run_card(missing.recipe)
    except SlimscopeError as error:
        with left:
            strip()
        right.error(str(error))
        return
    labels = [
        label for label, weight in weight_layers(base).items() if filter is None or filter(base, weight)
    ]
    if not labels:
        st.info("This net has no layer that this technique applies to.")
        return
    with left:
        layer = st.selectbox(
            "Layer in the pictures",
            labels,
            key=f"layer-{name}-{subject}",
            help="Which layer the pictures show; the step works on all of them.",
        )
    with right:
        try:
            places = still(_look(name, subject, base, layer))
        except SlimscopeError as error:
            st.error(str(error))
            places = None
    foot = st.container()
    for outside in (top, foot):
        outside.html("<span></span>")

    @st.fragment
    def live() -> None:
        if st.session_state.pop(knobs.REDRAW, False):
            st.rerun()
        knobs.panel(name, base)
        membership(name)
        try:
            look = _look(name, subject, base, layer)
        except SlimscopeError as error:
            st.error(str(error))
            return
        for note in look.report.notes:
            st.caption(note)
        tiles_slot = top.empty()
        tiles_slot.html(tiles(subject, wait=True))
        if places is not None:
            moving(look, places)
        tiles_slot.html(tiles(subject, wait=False))
        hold()
        strip()
        with foot:
            footer(subject)

    with left:
        live()


def _look(name: str, subject: str, base: Bundle, layer: str) -> Look:
    step = knobs.current(name)
    part = knobs.before(name).then(step)
    after, reports = cached.after(
        subject, Recipe((*part.steps[:-1], Step(step.technique, step.settings))).key
    )
    return Look(subject, step, base, after, reports[-1], layer)


def membership(name: str) -> None:
    """Whether the step is in the recipe, and a button that changes it."""
    place = knobs.find(name)
    if place is None:
        st.caption("A preview: this step is not in the recipe yet.")
        st.button(
            "Add to the recipe",
            key=f"add-{name}",
            on_click=_add,
            args=(name,),
            type="primary",
            width="stretch",
        )
    elif not session.recipe().steps[place].on:
        st.caption("This step is switched off: the pictures are a preview.")


def _add(name: str) -> None:
    st.session_state[knobs.REDRAW] = True
    session.put(knobs.insert(session.recipe(), technique.step(name)))


# ---------------------------------------------------------------- the header


def tiles(subject: str, wait: bool) -> str:
    """The four figures of the whole recipe; with `wait`, those that take time show the last known value."""
    key = session.recipe().live.key
    remembered: dict[str, list[Tile]] = st.session_state.setdefault("tiles", {})
    try:
        cached.after(subject, key)
    except cached.Untrained:
        return figures.tiles(
            [Tile("File size", None, "after training"), Tile("Accuracy", None, "after training")]
        )
    except SlimscopeError as error:
        return f'<div role="alert">{escape(str(error))}</div>'
    if wait and subject in remembered:
        old = [Tile(t.name, t.figure, t.note, t.was, True) for t in remembered[subject]]
        return figures.tiles(old)
    counted, was = cached.counted(subject, key), cached.counted(subject, "[]")
    size, dense = cached.size(subject, key), cached.dense_bytes(subject)
    row = [
        Tile(
            "Compressed file",
            size,
            f"{dense.value / size.value:.1f}x smaller than {figures.text(dense.value, 'bytes')} dense",
            dense,
        ),
        Tile(
            "Zero weights",
            counted["sparsity"],
            f"{counted['non-zero weights'].value:,.0f} are left",
            was["sparsity"],
        ),
        Tile("Parameters", counted["parameters"], f"of {was['parameters'].value:,.0f}", was["parameters"]),
    ]
    n = cached.sample_size(subject) if cached.images(subject) is not None else 0
    if n:
        now, change = cached.accuracy(subject, key, n)
        base = cached.accuracy(subject, "[]", n)[0]
        note = (
            f"{figures.interval(now)}, n = {n:,}" if key == "[]" else f"{figures.points(change)}, n = {n:,}"
        )
        row.insert(0, Tile("Accuracy", now, note, base))
    else:
        row.insert(0, Tile("Accuracy", None, "needs a known architecture"))
    remembered[subject] = row
    return figures.tiles(row)


# ---------------------------------------------------------------- the recipe


@st.fragment
def compare_and_recipe() -> None:
    """The compare button and the recipe by themselves, for pages without a technique of their own."""
    if st.session_state.pop(knobs.REDRAW, False):
        st.rerun()
    hold()
    strip()


def strip() -> None:
    """The recipe as a list of steps that can be moved, switched off and removed; undo, reset."""
    st.markdown("**Recipe**")
    recipe = session.recipe()
    if not len(recipe):
        st.caption("Empty: this is the original net. Move a control to add a step.")
    for i, step in enumerate(recipe):
        _step_row(i, step, len(recipe))
    undo, reset = st.columns(2)
    undo.button(
        "Undo",
        on_click=_then_redraw,
        args=(session.undo,),
        disabled=not session.can_undo(),
        width="stretch",
        key="undo",
    )
    reset.button(
        "Reset",
        on_click=_then_redraw,
        args=(session.put, Recipe()),
        disabled=not len(recipe),
        width="stretch",
        key="reset",
        help="Back to the original net",
    )


def _step_row(i: int, step: Step, count: int) -> None:
    known = technique.get(step.technique)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"step-{i}"):
        said = session.brief(Recipe((step,))).steps[0].settings
        words = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in said.items())
        text = f"{i + 1}. {known.title}" + (f" ({words})" if words else "")
        st.markdown(text if step.on else f"~~{text}~~", width="stretch")
        for icon, label, action, off in (
            ("arrow_upward", "Move up", "up", i == 0),
            ("arrow_downward", "Move down", "down", i == count - 1),
            (
                "toggle_on" if step.on else "toggle_off",
                "Switch off" if step.on else "Switch on",
                "toggle",
                False,
            ),
            ("delete", "Remove", "remove", False),
        ):
            st.button(
                f":material/{icon}:",
                key=f"step-{i}-{action}",
                help=label,
                type="tertiary",
                disabled=off,
                on_click=_edit,
                args=(i, action),
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
    st.session_state[knobs.REDRAW] = True
    action(*args)
