"""The two small browser components: marks that move over charts, and hold-to-compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


def _component(name: str, html: str, css: str = "") -> Any:
    # Registered again in each run: cheap, and right after the server was restarted under an open page.
    script = (HERE / f"{name}.js").read_text()
    return st.components.v2.component(f"slimscope_{name}", html=html, js=script, css=css)


def marks(charts: dict[str, list[dict[str, Any]]], key: str) -> None:
    """Lay marks over the charts with these keys: band, line, levels, sticks, path or dot."""
    _component("marks", "<span></span>")(data=charts, key=key, height=1)


HOLD = """<button type="button" aria-pressed="false">Hold: original</button>"""
HOLD_STYLE = """button { font: inherit; font-size: .85rem; padding: .42rem .7rem; white-space: nowrap; cursor: pointer;
 color: var(--st-text-color); background: var(--st-background-color); touch-action: none; user-select: none;
 border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
button[aria-pressed=true] { background: var(--st-primary-color); color: var(--st-background-color); }"""


def hold() -> None:
    """A button that shows the original's numbers and pictures while it is held (Space works too)."""
    _component("hold", HOLD, HOLD_STYLE)(key="hold", width="content")
