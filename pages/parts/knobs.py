"""Knob -> widget, Technique -> panel. The recipe is the truth: widgets are set from it before they
are drawn, and a change goes through one callback back into the recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from engine.recipe import technique
from engine.recipe.knobs import Choice, Knob, Layers, PerLayer, Picks, Slider, Toggle
from engine.types import Bundle, Recipe, SlimscopeError, Step, weight_layers
from pages.parts import session
from pages.parts.components import stage

MOST_STOPS = 500  # a slider with more is a number field
MOVED = "moved"  # the control that this request is about
TOUCHED = "touched"  # the control that moved last
DROPPED = "dropped"  # set where a move does not count: the browser must not wait for it
REDRAW = "redraw"  # set where a change alters the charts that are drawn once
ECHOES = "echoes"  # (control, value, when): what was in it when it was set, and may still be reported


def find(name: str) -> int | None:
    """Position of the last step of this technique in the recipe."""
    places = [i for i, s in enumerate(session.recipe()) if s.technique == name]
    return places[-1] if places else None


def current(name: str) -> Step:
    """The step that a page edits: the recipe's own, or one with the defaults."""
    place = find(name)
    return technique.step(name) if place is None else session.recipe().steps[place]


def insert(recipe: Recipe, step: Step) -> Recipe:
    """The recipe with a new step at its natural place, before the first step that usually follows it."""
    stage = technique.get(step.technique).stage
    later = [i for i, s in enumerate(recipe) if technique.get(s.technique).stage > stage]
    place = later[0] if later else len(recipe)
    return Recipe((*recipe.steps[:place], step, *recipe.steps[place:]))


def shown(name: str) -> tuple[Recipe, int]:
    """The recipe with the step that a page edits, and the step's position: where none is in it, a preview."""
    place = find(name)
    if place is not None:
        return session.recipe(), place
    whole = insert(session.recipe(), technique.step(name))
    return whole, next(i for i, s in enumerate(whole) if s.technique == name)


def before(name: str) -> Recipe:
    """The live part of the recipe that comes before the step that a page edits."""
    whole, place = shown(name)
    return Recipe(whole.steps[:place]).live


def through(name: str) -> Recipe:
    """The live part of the recipe up to the page's step, which is switched on even where the recipe has it off."""
    step = current(name)
    return before(name).then(Step(step.technique, step.settings))


def sliders(name: str, bundle: Bundle) -> dict[str, dict[str, Any]]:
    """The page's sliders, for the browser: widget key -> setting, and the value at each position."""
    step = current(name)
    return {
        f"{name}-{setting}": {
            "setting": setting,
            "stops": _stops(f"{name}-{setting}", knob, step.settings[setting], bundle),
        }
        for setting, knob in technique.get(name).knobs.items()
        if isinstance(knob, Slider) and knob.matters(step.settings)
    }


def foresee(name: str, bundle: Bundle, setting: str, shares: Callable[[float], list[list[float]]]) -> None:
    """Let the browser move bars (`pictures.mirrored`) under a slider, on a page whose own run answers."""
    control = sliders(name, bundle)[f"{name}-{setting}"]
    ahead = {"shares": [shares(stop) for stop in control["stops"]]}
    message = {"ask": {"controls": {f"{name}-{setting}": {**control, "ahead": ahead}}}}
    stage(message, f"stage-{name}")


def _stops(key: str, knob: Slider, value: Any, bundle: Bundle) -> list[Any]:
    """The values that a slider can take: those of its knob, and those that it had here besides.

    Once among them, a value stays: a list that changed while the slider moves would shift every place on it.
    """
    low, high = knob.bounds(bundle)
    besides = st.session_state.setdefault(f"{key}-besides", set())
    besides.add(type(value)(min(max(value, low), high)))
    return sorted({*knob.stops(bundle), *(extra for extra in besides if low <= extra <= high)})


def change(name: str, **settings: Any) -> None:
    """Put settings into the recipe's step, adding the step where there is none."""
    place, steps = find(name), list(session.recipe())
    try:
        if place is None:
            session.put(insert(session.recipe(), technique.step(name, **settings)))
            st.session_state[REDRAW] = True
        else:
            steps[place] = Step(name, {**steps[place].settings, **settings})
            session.put(Recipe(tuple(steps)))
            if any(technique.get(s.technique).trains for s in steps[place:]):
                st.session_state[REDRAW] = True  # what was trained is no longer what the recipe says
    except SlimscopeError as error:
        st.session_state["problem"] = str(error)


def pick(name: str, setting: str, layer: str, number: int) -> None:
    """Pick a numbered part of a layer, or drop it where it is picked."""
    picks = dict(current(name).settings[setting])
    picks[layer] = sorted({*picks.get(layer, ())} ^ {number})
    st.session_state[REDRAW] = True
    session.overrule()
    change(name, **{setting: {label: numbers for label, numbers in picks.items() if numbers}})


def membership(name: str) -> None:
    """Whether the step is in the recipe, and a button that adds it."""
    place = find(name)
    if place is None:
        st.caption("A preview: this step is not in the recipe yet.")
        st.button(
            "Add to the recipe",
            key=f"add-{name}",
            on_click=add,
            args=(name,),
            type="primary",
            width="stretch",
        )
    elif not session.recipe().steps[place].on:
        st.caption("This step is switched off: the pictures are a preview.")


def add(name: str) -> None:
    """Put the step with its defaults at its natural place."""
    st.session_state[REDRAW] = True
    session.put(insert(session.recipe(), technique.step(name)))


def panel(name: str, bundle: Bundle, follow: Callable[[], None] | None = None) -> Step:
    """All controls of a technique, set to the recipe's step; returns that step.

    With `follow`, a slider that moves is drawn again by itself, and then `follow` is called; whoever
    follows draws the whole page where REDRAW says so.
    """
    known, step = technique.get(name), current(name)
    st.session_state.pop(MOVED, None)
    presets(name)
    own = {n: k for n, k in known.knobs.items() if not isinstance(k, Picks)}  # picks are made in a picture
    main = {n: k for n, k in own.items() if not isinstance(k, Layers | PerLayer) and not k.rare}
    for knob_name, knob in main.items():
        if knob.matters(step.settings):
            if follow is not None and isinstance(knob, Slider):
                _alone(name, knob_name, knob, bundle, follow)
            else:
                control(name, knob_name, knob, step.settings[knob_name], bundle)
    rest = {n: k for n, k in own.items() if n not in main and k.matters(step.settings)}
    for title, key, rare in (("Layer by layer", "layers", False), ("More", "more", True)):
        folded = {n: k for n, k in rest.items() if k.rare is rare}
        if not folded:
            continue
        fold = st.expander(title, key=f"{key}-{name}", on_change="rerun")
        if fold.open:
            with fold:
                for knob_name, knob in folded.items():
                    control(name, knob_name, knob, step.settings[knob_name], bundle)
    return step


def _alone(owner: str, name: str, knob: Slider, bundle: Bundle, follow: Callable[[], None]) -> None:
    moved = False

    @st.fragment
    def slider() -> None:
        nonlocal moved
        st.session_state.pop(MOVED, None)
        control(owner, name, knob, current(owner).settings[name], bundle)
        if moved:
            follow()
        moved = True

    slider()


def presets(name: str) -> None:
    """Gentle, balanced, extreme: three buttons that set everything at once."""
    known = technique.get(name)
    if not known.presets:
        return
    row = st.container(horizontal=True, gap="xsmall", key=f"presets-{name}")
    for title, settings in known.presets.items():
        row.button(
            title.capitalize(),
            key=f"preset-{name}-{title}",
            on_click=set_all,
            args=(name, {**known.defaults, **settings}),
            help=", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items()),
        )


def set_all(name: str, settings: dict[str, Any]) -> None:
    """Set many settings at once, by a button: it overrules controls that still report what was before."""
    st.session_state[REDRAW] = True
    change(name, **settings)
    session.overrule()


def _show(key: str, value: Any) -> None:
    """Set a widget, unless it shows this already: setting it again would undo keys pressed meanwhile.

    What was drawn by a run that did not come to its end may never have reached the browser: there the widget
    would stand at its lowest value, and report that as a move. A run that draws the whole page also drops what
    a slider's own run has not sent yet: what stands beside a control that has just moved is told twice.
    """
    state, told = st.session_state, f"{key}-told"
    if state.get(key) != value or not session.has_shown(key):
        now = time.monotonic()
        recent = [echo for echo in state.get(ECHOES, ()) if now - echo[2] < session.LATE]
        state[ECHOES] = [*recent, (key, state.get(key), now)] if state.get(key) != value else recent
        state[key], state[told] = value, now
    elif (
        _is_beside(key, state.get(TOUCHED, ""))
        and time.monotonic() - state.get(told, -math.inf) < session.LATE
    ):
        state[key] = value


def _is_echo(key: str, value: Any) -> bool:
    """Whether a control reports what was in it before it was set: its browser has not heard of that yet."""
    return any(
        key == name and value == old and time.monotonic() - then < session.LATE
        for name, old, then in st.session_state.get(ECHOES, ())
    )


def heard() -> None:
    """The browser has heard of all that was set: what it reports from here on counts."""
    st.session_state.pop(ECHOES, None)


def _is_beside(key: str, moved: str) -> bool:
    """Whether this is the number field of the slider that moved, or the slider of the field."""
    return key != moved and key.removesuffix("-exact") == moved.removesuffix("-exact")


def control(owner: str, name: str, knob: Knob, value: Any, bundle: Bundle) -> None:
    """One control with its label, unit, help and exact entry."""
    key = f"{owner}-{name}"
    title = knob.label or name.replace("_", " ").capitalize()
    match knob:
        case Slider():
            _slider(owner, name, key, title, knob, value, bundle)
        case Choice():
            options = list(knob.options)
            _show(key, value)
            tips = "; ".join(f"**{o}**: {t}" for o, t in knob.options.items())
            pick = st.segmented_control if len(options) <= 3 else st.selectbox
            extra: dict[str, Any] = {"required": True} if len(options) <= 3 else {}
            pick(
                title,
                options,
                key=key,
                help=f"{knob.help} {tips}",
                on_change=_take,
                args=(owner, name, key, True),
                **extra,
            )
        case Toggle():
            _show(key, value)
            st.toggle(title, key=key, help=knob.help, on_change=_take, args=(owner, name, key, False))
        case Layers():
            _show(key, list(value))
            st.multiselect(
                title,
                list(dict.fromkeys([*weight_layers(bundle), *value])),
                key=key,
                help=knob.help,
                on_change=_take,
                args=(owner, name, key, True),
            )
        case PerLayer():
            _per_layer(owner, name, key, title, knob, value, bundle)


def _take(owner: str, name: str, key: str, redraw: bool) -> None:
    value, slider = st.session_state[key], key.removesuffix("-exact")
    if key != slider and st.session_state.get(MOVED) == slider:
        return  # the slider moves faster than answers arrive: its number field still has an old value
    last, st.session_state[f"{slider}-heard"] = st.session_state.get(f"{slider}-heard"), value
    if session.just_overruled() and (value == last or st.session_state.get(session.OVERRULED)):
        _show(key, current(owner).settings[name])  # a move from before the button, or too soon after it
        st.session_state[DROPPED] = True
        return
    if _is_echo(key, value):  # any request may bring one: of the watch over jobs, of a button
        _show(key, current(owner).settings[name])
        return
    st.session_state[MOVED] = st.session_state[TOUCHED] = key
    if redraw:
        st.session_state[REDRAW] = True
    change(owner, **{name: value})


def written(knob: Knob, value: Any) -> str:
    """A slider's value as people read it: in per cent where its knob says so."""
    return f"{100 * value:.4g} %" if isinstance(knob, Slider) and knob.percent else f"{value:g}"


def _slider(owner: str, name: str, key: str, title: str, knob: Slider, value: Any, bundle: Bundle) -> None:
    low, high = knob.bounds(bundle)
    inside = min(max(value, low), high)
    stops = _stops(key, knob, value, bundle)
    unit = f" ({knob.unit})" if knob.unit and not knob.percent and knob.unit != title.lower() else ""
    if len(stops) > MOST_STOPS:
        _show(key, int(inside))
        st.number_input(
            title + unit,
            int(low),
            int(high),
            key=key,
            help=knob.help,
            on_change=_take,
            args=(owner, name, key, False),
        )
        return
    with st.container(key=f"pair-{key}"):
        slide, exact = st.columns([2.6, 1.4], vertical_alignment="bottom", gap="small")
    _show(key, type(value)(inside))
    _show(f"{key}-exact", type(value)(inside))
    with slide:
        st.select_slider(
            title + unit,
            stops,
            key=key,
            format_func=partial(written, knob),
            help=knob.help,
            on_change=_take,
            args=(owner, name, key, False),
        )
    with exact:
        whole = isinstance(value, int)
        st.number_input(
            f"{title}, exact",
            int(low) if whole else float(low),
            int(high) if whole else float(high),
            key=f"{key}-exact",
            step=1 if whole else None,
            format=None if whole else "%.4g",
            label_visibility="collapsed",
            on_change=_take,
            args=(owner, name, f"{key}-exact", False),
        )


def _per_layer(
    owner: str, name: str, key: str, title: str, knob: PerLayer, value: dict[str, Any], bundle: Bundle
) -> None:
    labels = list(dict.fromkeys([*weight_layers(bundle), *value]))  # a layer that is gone can be taken out
    rows = pd.DataFrame({"layer": labels, "value": [value.get(label) for label in labels]}).astype(
        {"value": "float64"}
    )
    low, high = knob.knob.bounds(bundle)
    # A new key for new contents: an editor whose data changed under it would lose what was typed.
    editor = f"{key}-{hash(tuple(sorted(value.items())))}"

    def taken() -> None:
        edits = st.session_state[editor]["edited_rows"]
        new = dict(value)
        for row, cells in edits.items():
            new.pop(labels[int(row)], None)
            if cells.get("value") is not None:
                number = cells["value"]
                new[labels[int(row)]] = int(number) if knob.knob.whole else float(number)
        change(owner, **{name: new})

    st.caption(f"{title}: {knob.help}")
    number = st.column_config.NumberColumn(
        f"own value ({knob.knob.unit or 'number'})", min_value=low, max_value=high
    )
    st.data_editor(
        rows,
        key=editor,
        hide_index=True,
        disabled=["layer"],
        column_config={"value": number},
        on_change=taken,
        width="stretch",
    )
