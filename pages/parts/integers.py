"""The quantized model on integers alone, beside the simulated one that the pages measure."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.types import SlimscopeError
from pages.parts import cached, figures, visitor
from pages.parts.figures import Tile
from pages.parts.fold import fold

COLUMNS = {
    "layer": figures.Column("layer"),
    "largest_lsb": figures.Column("largest difference"),
    "mean_lsb": figures.Column("mean difference"),
    "largest_lsb_alone": figures.Column("largest, this step alone"),
    "largest_sum": figures.Column("sums reach"),
    "sum_bits": figures.Column("bits of a sum"),
    "fits": figures.Column("fits 32 bits"),
}


def section(subject: str, key: str) -> None:
    """A fold, where what enters layers is rounded to fixed grids."""
    edits = cached.after(subject, key)[0].arch.edits
    if any(verb == "quantize_input" and not own["dynamic"] for verb, own in edits):
        fold("The same on integers alone", "integers", partial(_inside, subject, key))


def _inside(subject: str, key: str) -> None:
    st.caption(
        "Accuracy on the pages is that of a simulation: numbers are rounded to codes, but multiplied as floats. "
        "A chip for integers multiplies the codes, adds them up in 32 bits, and brings each sum to the next "
        "layer's codes by a fixed-point multiplication (Jacob 2018). Here both run on the same samples; "
        "differences are in steps between codes (LSB) of what enters a layer."
    )
    if visitor.why_idle():
        st.caption(visitor.why_idle())
        return
    try:
        with st.spinner("Running both models ..."):
            found = cached.on_integers(subject, key)
    except SlimscopeError as error:
        st.info(str(error))
        return
    tiles = [Tile(figures.titled(figure.name), figure, figures.said(figure)) for figure in found.figures]
    st.html(figures.tiles(tiles))
    st.html(figures.table(found.layers, COLUMNS))
    st.markdown("\n".join(f"- {line}" for line in filter(None, (found.first, *found.notes))))
