"""The two small browser components: what moves with a slider, and hold-to-compare."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent
SENT = count()  # a message like the last one would not be delivered, though the page has moved on since


def _component(name: str, html: str, css: str = "") -> Any:
    # Registered again in each run: cheap, and right after the server was restarted under an open page.
    script = (HERE / f"{name}.js").read_text()
    return st.components.v2.component(f"slimscope_{name}", html=html, js=script, css=css)


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


HOLD = """<button type="button" aria-pressed="false">Hold: original</button>"""
HOLD_STYLE = """button { font: inherit; font-size: .85rem; padding: .42rem .7rem; white-space: nowrap; cursor: pointer;
 color: var(--st-text-color); background: var(--st-background-color); touch-action: none; user-select: none;
 border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
button[aria-pressed=true] { background: var(--st-primary-color); color: var(--st-background-color); }"""


def hold() -> None:
    """A button that shows the original's numbers and pictures while it is held (Space works too)."""
    _component("hold", HOLD, HOLD_STYLE)(key="hold", width="content")
