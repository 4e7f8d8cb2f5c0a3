"""Heads: how many heads does attention need?"""

from __future__ import annotations

import streamlit as st

from engine.recipe import technique
from pages.parts import figures, frame
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Scene, Update
from pages.parts.pictures import heads

PAGE = {
    "title": "Heads",
    "icon": "visibility",
    "about": "Take whole heads out of attention, those first that the loss depends on least.",
    "order": 35,
    "technique": "prune_heads",
    "group": "Prune",
}
LAYERS = {
    "layer": figures.Column("layer"),
    "weights": figures.Column("weights before"),
    "weights_after": figures.Column("after"),
    "macs_before": figures.Column("MACs before"),
    "macs_after": figures.Column("after"),
}


def hero(scene: Scene, place: Place) -> None:
    st.subheader("Heads, layer by layer", anchor=False)
    place("heads")


def deeper(scene: Scene, place: Place) -> None:
    st.subheader("What the heads of a layer look at", anchor=False)
    heads.looks(scene)
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def update(scene: Scene) -> Update:
    rows = scene.report.tables["heads"]
    layers = scene.report.tables["layers"]
    own = layers[[layer.startswith(tuple(f"{name}." for name in rows["layer"])) for layer in layers["layer"]]]
    table = figures.table(own, LAYERS, scene.layer)
    return Update({}, {"heads": heads.grid(rows), "layers": table}, lesson(scene))


def lesson(scene: Scene) -> Lesson:
    """How many go with how many parameters, and whether an attention is down to one head."""
    known, rows = technique.get("prune_heads"), scene.report.tables["heads"]
    found = {figure.name: figure for figure in scene.report.figures}
    lost, macs = (
        1 - found[f"{name}{after}"].value / found[f"{name} before"].value
        for name, after in (("parameters", ""), ("multiply-adds", " after"))
    )
    gone = int((~rows["kept"]).sum())
    left = rows.groupby("layer")["kept"].sum()
    aha = (
        f"{gone} of {len(rows)} heads are {lost:.1%} of the parameters and {macs:.1%} of the multiply-adds: "
        "most of a transformer is not attention. Many heads can go after training, and which, their own gradient tells."
    )
    return Lesson(aha, known.trap, bool(gone and (left == 1).any()))


frame.heading(
    "Heads",
    "How many heads does attention need? **Remove more of them and watch where they go.**",
    "Each head of attention looks at other words than the others. Its importance is how much the loss would move if what it "
    "gives were a little louder or softer: the mean, over training samples, of the size of that derivative. Heads that go "
    "take their rows of queries, keys and values and their columns of the output with them.",
)
frame.workbench("prune_heads", hero, update, lambda scene, setting, stops: None, deeper, heads.reads)
