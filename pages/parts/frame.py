"""The workbench that every technique's page stands on: tiles, controls, pictures, run button.

A page gives two functions: `still` draws what stays while a slider moves and returns the places
for what does not; `moving` fills those places on every move. Both get a `Look`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import streamlit as st
from torch import Tensor

from engine import technique
from engine.surgery import weight_layers
from engine.types import Bundle, Recipe, Report, SlimscopeError, Step
from pages.parts import cached, figures, jobs, knobs, session
from pages.parts.components import hold
from pages.parts.figures import Tile
from pages.parts.footer import footer

Places = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What a page shows: the bundle before and after its step, the step's report, and the chosen layer."""

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
    name: str,
    still: Callable[[Look], Places],
    moving: Callable[[Look, Places], None],
    fits: Callable[[Bundle, str], bool] | None = None,
) -> None:
    """Lay out a technique's page and keep it alive while its controls move."""
    subject = session.subject()
    bar, top = st.container(), st.container()
    with st.container(key="workbench"):
        left, right = st.columns([1, 2.6], gap="medium")
    reached = jobs.reached(subject, knobs.before(name), right)
    if reached is None:
        with bar:
            header(subject)
        return
    base, _ = reached
    labels = [label for label, weight in weight_layers(base).items() if fits is None or fits(base, weight)]
    if not labels:
        with bar:
            header(subject)
        right.info("This net has no layer that this technique applies to.")
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
        except SlimscopeError:
            places = None  # the controls say what is wrong
    foot = st.container()
    for outside in (bar, top, foot):
        outside.html("<span></span>")

    @st.fragment
    def live() -> None:
        if st.session_state.pop(knobs.REDRAW, False):
            st.rerun()
        try:
            look = _look(name, subject, base, layer)
        except SlimscopeError as error:
            look = None
            st.error(str(error))
        if look is not None:
            # What moved goes out first; what must be measured follows, and says so until then.
            if places is not None:
                moving(look, places)
            first = tiles(subject, wait=True)
            slot = top.empty()  # only now: an empty place would be seen
            slot.html(first)
        knobs.panel(name, base)
        knobs.membership(name)
        for note in look.report.notes if look else ():
            st.caption(note)
        with bar:
            strip()
        if look is not None:
            slot.html(tiles(subject, wait=False))
            with foot:
                footer(subject)
        jobs.wake()

    with left:
        live()


def _look(name: str, subject: str, base: Bundle, layer: str) -> Look:
    after, reports = cached.after(subject, knobs.through(name).key)
    return Look(knobs.current(name), base, after, reports[-1], layer)


# ---------------------------------------------------------------- the header


def tiles(subject: str, wait: bool) -> str:
    """The four figures of the whole recipe; with `wait`, those that take time show the last known value."""
    key = session.recipe().live.key
    remembered: dict[str, list[Tile]] = st.session_state.setdefault("tiles", {})
    try:
        cached.after(subject, key)
    except cached.Untrained:
        return figures.tiles(
            [
                Tile(name, None, "a step must be trained first: press Run")
                for name in ("Accuracy", "Compressed file")
            ]
        )
    except SlimscopeError as error:
        unknown = [
            Tile(name, None, "a step does not fit this net") for name in ("Accuracy", "Compressed file")
        ]
        return f'{figures.tiles(unknown)}<div role="alert">{escape(str(error))}</div>'
    counted, was = cached.counted(subject, key), cached.counted(subject, "[]")
    row = [
        Tile(
            "Zero weights",
            counted["sparsity"],
            f"{counted['non-zero weights'].value:,.0f} are left",
            was["sparsity"],
        ),
        Tile("Parameters", counted["parameters"], f"of {was['parameters'].value:,.0f}", was["parameters"]),
    ]
    if wait and subject in remembered:
        return figures.tiles([*(replace(tile, pending=True) for tile in remembered[subject]), *row])
    n = cached.sample_size(subject) if cached.images(subject) is not None else 0
    slow = [
        accuracy(subject, key, n) if n else Tile("Accuracy", None, "needs a known architecture"),
        file_size(subject, key),
    ]
    remembered[subject] = slow
    return figures.tiles([*slow, *row])


def file_size(subject: str, key: str) -> Tile:
    """Bytes of the real file, and how many times smaller it is than the original's dense file."""
    size, dense = cached.size(subject, key), cached.dense_bytes(subject)
    ratio = f"{dense.value / size.value:.1f}x smaller than {figures.text(dense.value, 'B')} dense"
    return Tile("Compressed file", size, ratio, dense)


def accuracy(subject: str, key: str, n: int) -> Tile:
    """Accuracy on the whole test set where it is known; else on a sample, while the whole follows."""
    held = cached.images(subject)
    assert held is not None
    (now, change), (base, _) = cached.accuracy(subject, key, n), cached.accuracy(subject, "[]", n)
    more = ""
    if n < len(held.test):
        whole, origin = cached.full_accuracy(subject, key), cached.full_accuracy(subject, "[]")
        if whole is None:
            more = f"; all {len(held.test):,} follow"
            jobs.measure_all(key)
        else:
            (now, change), n = whole, len(held.test)
            base = base if origin is None else origin[0]
    note = figures.interval(now) if key == "[]" else figures.points(change)
    return Tile("Accuracy", now, f"{note}, n = {n:,}{more}", base)


# ---------------------------------------------------------------- the recipe


def header(subject: str) -> None:
    """The recipe and the tiles, for pages without a technique of their own, and where one can't be shown."""
    compare_and_recipe()
    st.html(tiles(subject, wait=False))


@st.fragment
def compare_and_recipe() -> None:
    """The recipe by itself, for pages without a technique of their own."""
    if st.session_state.pop(knobs.REDRAW, False):
        st.rerun()
    strip()


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
    st.session_state[knobs.REDRAW] = True
    action(*args)
