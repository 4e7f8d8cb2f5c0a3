"""Low rank of an LSTM: who reads its states, and how many numbers do they need?"""

import streamlit as st

from engine.net import projecting
from engine.recipe import technique
from engine.types import Bundle, weight_layers
from pages.parts import frame, plain
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Scene, Update
from pages.parts.pictures import projected

PAGE = {
    "title": "Low rank of an LSTM",
    "icon": "call_merge",
    "about": "Sum up the states of an LSTM in fewer numbers, for all who read them.",
    "order": 71,
    "technique": "low_rank_rnn",
    "group": "Factor",
}


def reads_states(bundle: Bundle, weight: str) -> bool:
    return projecting.level_of(bundle, weight, False) is not None


def level(scene: Scene) -> projecting.Level:
    weight = weight_layers(scene.before)[scene.layer]
    found = projecting.level_of(scene.before, weight, scene.step.settings["cut_from"] == "both")
    assert found is not None
    return found


def hero(scene: Scene, place: Place) -> None:
    st.subheader("What one P keeps of each", anchor=False)
    st.plotly_chart(
        projected.kept(level(scene)),
        key="kept",
        config={"displayModeBar": False},
        alt="Share of the sum of squares of each matrix that the shared projection keeps at each rank",
    )


def deeper(scene: Scene, place: Place) -> None:
    st.subheader("The matrices and their thin factors, to scale", anchor=False)
    place("projection")
    st.subheader("What the step reports", anchor=False)
    place("figures")
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def update(scene: Scene) -> Update:
    known, rank, now = technique.get("low_rank_rnn"), int(scene.row["rank"]), level(scene)
    html = {
        "projection": projected.drawn(now, rank),
        "figures": plain.reported(scene),
        "layers": plain.table(scene.report.tables["layers"], scene.layer),
    }
    return Update({"kept": projected.marks(now, rank)}, html, Lesson(known.aha, known.trap))


frame.heading(
    "Low rank of an LSTM",
    "Who reads an LSTM's states, and how many numbers do they need? **Lower what is kept and see what each loses.**",
    "The states go back into the LSTM and on to the next layer. Both read P h in place of h: r numbers, worked out once. "
    "P keeps the strongest directions of the recurrent matrix, and each Z is the nearest for it, by least squares.",
)
frame.workbench("low_rank_rnn", hero, update, lambda scene, setting, stops: None, deeper, reads_states)
