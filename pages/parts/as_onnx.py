"""The model as an ONNX file: made when it is asked for, and run before it is offered."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.figures import onnx_run
from engine.types import SlimscopeError
from pages.parts import cached, figures, ship, view, visitor
from pages.parts.figures import Tile
from pages.parts.fold import fold

TILES = {
    "Accuracy of the file": "accuracy",
    "ONNX bytes": "ONNX file",
    "Output difference": "largest output difference",
    "Times as fast": "speed-up",
}


def section(subject: str, key: str) -> None:
    fold("ONNX file, run and timed before it is offered", "onnx", partial(_inside, subject, key))


def _inside(subject: str, key: str) -> None:
    if visitor.why_idle():
        st.caption(visitor.why_idle())
        return
    try:
        with st.spinner("Writing the file, running it and timing it ..."):
            found = cached.as_onnx(subject, key)
    except SlimscopeError as error:
        st.info(str(error))
        return
    n = len(cached.looked_at(subject))
    row = [_tile(name, found, figure, n) for name, figure in TILES.items()]
    st.html(figures.tiles(tile for tile in row if tile.figure is not None))
    st.markdown("\n".join(f"- {line}" for line in onnx_run.told(found)))
    name = ship.origin(subject)[0]
    get, again = st.columns(2)
    get.download_button(
        "ONNX file (.onnx)",
        lambda: found.data,
        f"{name}.onnx",
        on_click="ignore",
        icon=":material/deployed_code:",
        width="stretch",
        key="get-onnx",
    )
    what = onnx_run.inputs_of(cached.looked_at(subject))
    get.caption(f"This very file was run for the figures above, and it says so of itself: {what}")
    again.button(
        "Run and time it again",
        on_click=cached.as_onnx.clear,
        args=(subject, key),
        icon=":material/refresh:",
        width="stretch",
        key="onnx-again",
    )
    st.code(ship.command(subject, view.now().live, "export", "onnx", "onnx"), language="sh", wrap_lines=True)


def _tile(name: str, found: onnx_run.Tried, figure: str, n: int) -> Tile:
    own = found.figure(figure) or (found.figure("perplexity") if figure == "accuracy" else None)
    match figure:
        case "ONNX file":
            first = found.figure("float ONNX file of the original")
            note = f"the original's: {figures.text(first.value, first.unit)}" if first else ""
        case "speed-up":
            note = "against the original's float file"
        case "accuracy":
            note = "" if own is None else f"{figures.interval(own)}, n = {n:,}"
        case _:
            note = "from the model's own outputs"
    return Tile(name, own, note)
