"""The small browser components: what moves with a slider, hold-to-compare, and what hangs on a filter."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

HERE = Path(__file__).parent
SCRIPTS = "browser"  # the folder that Streamlit serves to browsers
SENT = count()  # a message like the last one would not be delivered, though the page has moved on since


def _component(name: str, html: str, css: str = "") -> Any:
    """A component whose script is `browser/NAME.js`, an ordinary module that the browser fetches once.

    Registered again in each run: cheap, and right after the server was restarted under an open page.
    """
    manager = get_bidi_component_manager()
    if manager.get_component_asset_root(f"slimscope.{name}") is None:
        component = ComponentConfig(name, asset_dir=SCRIPTS)
        manager.register_from_manifest(ComponentManifest("slimscope", "", [component]), HERE)
    return st.components.v2.component(f"slimscope.{name}", html=html, js=f"{name}.js", css=css)


def places() -> None:
    """Keep one step back what a visitor takes for one step; nothing is to be seen."""
    _component("places", "<span></span>")(key="places", height=1)


def stage(message: dict[str, Any], key: str) -> None:
    """Put a message of `live.py` on the page: marks over charts, pieces of HTML, tiles."""
    _component("stage", "<span></span>")(data={**message, "sent": next(SENT)}, key=key, height=1)


def settled(message: dict[str, Any]) -> None:
    """Run this fragment again when the browser shows all figures of another recipe than `key`."""
    _component("stage", "<span></span>")(
        data={**message, "rest": True, "sent": next(SENT)},
        key="settled",
        height=1,
        on_settled_change=lambda: None,
    )


PANEL_STYLE = (HERE / SCRIPTS / "panel.css").read_text()


def panel(message: dict[str, Any], key: str) -> None:
    """A technique's controls; what the browser edits is in the key's `edits`."""
    _component("panel", '<div class="panel"></div>', PANEL_STYLE)(data=message, key=key)


CURVE_STYLE = """p { margin: 0; min-height: 4.4em; font-size: .84rem; line-height: 1.45; color: var(--st-text-color); }"""


def asks_again(key: str) -> bool:
    """Whether the browser asks for more of this curve than it last got."""
    again = (st.session_state.get(key) or {}).get("again")
    return again is not None and again == st.session_state.get(f"{key}-sent")


def curve(message: dict[str, Any], key: str) -> None:
    """The present point on a curve, and what it says in words."""
    sent = st.session_state[f"{key}-sent"] = next(SENT)
    _component("curve", "<p></p>", CURVE_STYLE)(
        data={**message, "sent": sent}, key=key, on_again_change=lambda: None
    )


HOLD = """<button type="button" aria-pressed="false">Hold: original</button>"""
HOLD_STYLE = """button { font: inherit; font-size: .85rem; padding: .3rem .6rem; white-space: nowrap; cursor: pointer;
 color: var(--st-text-color); background: var(--st-background-color); touch-action: none; user-select: none;
 border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
button[aria-pressed=true] { background: var(--st-primary-color); color: var(--st-background-color); }"""


def hold() -> None:
    """A button that shows the original's numbers and pictures while it is held (Space works too)."""
    _component("hold", HOLD, HOLD_STYLE)(key="hold", width="content")


COUPLED = """<div class="coupled"></div>"""
COUPLED_STYLE = """.coupled { position: relative; display: grid; grid-template-columns: 2fr 3fr; gap: 3rem; align-items: start;
 font-size: .82rem; color: var(--st-text-color); --makes: #d55e00; --reads: #2f8fcf; }
.side { position: relative; z-index: 1; }
.coupled p { margin: 0 0 .5rem; opacity: .8; }
.filters { display: flex; flex-wrap: wrap; gap: 3px; }
.filters button { width: var(--side); height: var(--side); padding: 0; cursor: pointer; border-radius: 3px; background-size: 100% 100%;
 image-rendering: pixelated; border: 1px solid color-mix(in srgb, var(--st-text-color) 35%, transparent);
 background-color: color-mix(in srgb, var(--reads) var(--share, 0%), var(--st-background-color)); }
.filters button.gone { opacity: .45; border-style: dashed; }
.filters button[aria-checked=true] { outline: 3px solid var(--makes); outline-offset: 1px; }
.filters button:focus-visible { outline: 3px solid var(--st-text-color); }
.part { margin-bottom: .35rem; }
.part span { display: block; line-height: 1.3; background: var(--st-background-color); width: fit-content; }
.bar { position: relative; height: 10px; border-radius: 3px; background: color-mix(in srgb, var(--st-text-color) 14%, transparent); }
.slice { position: absolute; top: -2px; height: 14px; border-radius: 2px; background: var(--reads); }
.makes .slice { background: var(--makes); }
svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; overflow: visible; }
path { fill: none; stroke: var(--reads); stroke-width: 1.5; opacity: .7; }
path.makes { stroke: var(--makes); }"""


def coupled(message: dict[str, Any], key: str, on_pick: Callable[[], None]) -> None:
    """A layer's filters to click, and the slices that go with the one picked; its number is in the key's `picked`."""
    _component("coupled", COUPLED, COUPLED_STYLE)(data=message, key=key, on_picked_change=on_pick)


STORY = """<p role="status" aria-live="polite"></p>"""


def story_keys(message: dict[str, Any], key: str) -> None:
    """Keys that tell the story, in the key's `pressed`; and where it is, for screen readers."""
    _component("story", STORY)(data=message, key=key, height=1, on_pressed_change=lambda: None)


def drag(message: dict[str, Any], key: str, on_drop: Callable[[], None]) -> None:
    """Handles for the levels over a chart; what was dropped is in the key's `dropped`."""
    _component("drag", "<span></span>")(data=message, key=key, height=1, on_dropped_change=on_drop)


def handle() -> None:
    """Let marks of the kind `handle` be dragged: they edit the panel's settings."""
    _component("handle", "<span></span>")(data={}, key="handle", height=1)


def point() -> None:
    """Let dots that have a layer's numbers be dragged: they edit the panel's tables of layers."""
    _component("point", "<span></span>")(data={}, key="point", height=1)


ANATOMY = """<div class="anatomy"><div class="field"></div><div class="scale"></div><p class="said"><b></b><span></span></p></div>"""
ANATOMY_STYLE = (HERE / SCRIPTS / "anatomy.css").read_text()


def anatomy(message: dict[str, Any], key: str, on_choose: Callable[[], None]) -> None:
    """A model's layers to click; which one was chosen is in the key's `chosen`."""
    _component("anatomy", ANATOMY, ANATOMY_STYLE)(data=message, key=key, on_chosen_change=on_choose)
