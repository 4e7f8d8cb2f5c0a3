"""An entry of a table of shared weights, set by hand: dragged in the chart, or written as a number."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts import components, knobs, strip
from pages.parts.live import Scene

STEP = "share_weights"


@st.fragment
def handles(scene: Scene, chart: str) -> None:
    """Handles for the levels in a chart."""
    strip.redraw()
    key = f"drag-{scene.layer}"
    components.drag({"chart": chart, "layer": scene.layer, "name": STEP}, key, lambda: _dropped(key))


def _dropped(key: str) -> None:
    dropped = st.session_state[key]["dropped"]
    put(str(dropped["layer"]), int(dropped["entry"]), float(dropped["value"]))


def put(layer: str, entry: int, value: float | None) -> None:
    """An entry goes to a value, or back to where k-means put it."""
    hand = {label: dict(own) for label, own in knobs.current(STEP).settings["by_hand"].items()}
    own = hand.setdefault(layer, {})
    if value is None:
        own.pop(str(entry), None)
    else:
        own[str(entry)] = value
    knobs.change(STEP, by_hand={label: entries for label, entries in hand.items() if entries})


@st.fragment
def fields(scene: Scene, entries: pd.DataFrame) -> None:
    """The same with two number fields: which entry, and where it is."""
    strip.redraw()
    known = entries.set_index("entry")["value"]
    hand = scene.step.settings["by_hand"].get(scene.layer, {})
    left, middle, right = st.columns([1, 1, 1], vertical_alignment="bottom")
    entry = left.number_input(
        "Entry", 0, len(known) - 1, key=f"entry-{scene.layer}", help="0 is the smallest."
    )
    key = f"value-{scene.layer}-{entry}"
    st.session_state[key] = float(known[entry])
    middle.number_input(
        "Value",
        key=key,
        format="%.4g",
        step=float(known.max() - known.min()) / 100 or 0.01,
        on_change=lambda: put(scene.layer, int(entry), float(st.session_state[key])),
        help="Its weights go with it; the error, the file and the accuracy follow.",
    )
    right.button(
        "Put it back",
        key=f"back-{scene.layer}",
        on_click=lambda: put(scene.layer, int(entry), None),
        disabled=str(entry) not in hand,
        icon=":material/undo:",
        help="To where k-means put it.",
        width="stretch",
    )
