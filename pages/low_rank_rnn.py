"""Low rank of an LSTM: who reads its states, and how many numbers do they need?"""

import streamlit as st

from engine.figures import count
from engine.net import projecting
from engine.recipe import technique
from engine.types import Bundle, SlimscopeError
from pages.parts import charts, figures, frame
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Look, Moving
from pages.parts.pictures import legend, projected

NAME = "low_rank_rnn"
PAGE = {
    "title": "Low rank of an LSTM",
    "icon": "call_merge",
    "about": "Sum up the states of an LSTM in fewer numbers, for all who read them.",
    "order": 71,
    "technique": "low_rank_rnn",
    "group": "Factor",
}
COLUMNS = {
    "layer": figures.Column("layer"),
    "projection": figures.Column("projection"),
    "rank": figures.Column("rank"),
    "energy_kept": figures.Column("energy kept", "share", charts.KEPT),
    "error": figures.Column("error", "share"),
    "weights_before": figures.Column("weights before"),
    "weights_after": figures.Column("after"),
    "applied": figures.Column("factorized"),
    "why": figures.Column("why"),
}


def reads_states(bundle: Bundle, weight: str) -> bool:
    try:
        found, _ = projecting.found(bundle, False)
    except SlimscopeError:
        return False
    return any(weight in level.names for layer in found for level in layer.levels)


def hero(look: Look, place: Place) -> None:
    st.subheader("One summary for all readers", anchor=False)
    place("projection")
    st.html(legend((charts.ORIGINAL, "W"), (charts.KEPT, "Z"), (charts.CHANGED, "P, shared")))


def deeper(look: Look, place: Place) -> None:
    st.subheader("What the step reports", anchor=False)
    place("figures")
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def moving(look: Look) -> Moving:
    known, row, table = technique.get(NAME), look.row, look.report.tables["layers"]
    sharing, weights = table[table["projection"] == row["projection"]], dict(count.weights(look.before))
    shapes = {layer: (len(weights[layer]), weights[layer].shape[1]) for layer in sharing["layer"]}
    tiles = (figures.Tile(figures.titled(f.name), f, figures.said(f)) for f in look.report.figures)
    html = {
        "projection": projected.drawn(shapes, row["projection"], int(row["rank"])),
        "figures": figures.tiles(tiles),
        "layers": figures.table(table, COLUMNS, look.layer),
    }
    return Moving({}, html, Lesson(known.aha, known.trap))


frame.heading(
    "Low rank of an LSTM",
    "Who reads an LSTM's states, and how many numbers do they need? **Lower what is kept and watch Z and P shrink.**",
    "The states go back into the LSTM and on to the next layer. Both read P h in place of h: r numbers, worked out once. "
    "P keeps the strongest directions of the recurrent matrix, and each Z is the nearest for it, by least squares.",
)
frame.workbench(NAME, hero, moving, lambda look, setting, stops: None, deeper, reads_states)
