"""Tickets: was the small net in the large one from the start?"""

from typing import Any

import pandas as pd
import streamlit as st

from engine import papers
from engine.papers import harness
from pages.parts import cached, charts, figures, frame, jobs, knobs, session, training
from pages.parts.footer import footer

TECHNIQUE = "lottery_ticket"
STORED = papers.get("lottery-ticket-mnist")

frame.heading(
    "Tickets",
    "Train a net, remove its smallest weights, and put the others back to where they **began**. What is left learns as "
    "well as the whole net did, and sooner. **The same mask on other first weights does not**: so it was not the shape "
    "alone. A ticket is drawn when the weights are.",
)
subject = session.subject()
frame.header(subject)


def against_density(tickets: pd.DataFrame, name: str) -> None:
    """Accuracy and early stop against what is left, a line for each kind of run."""
    shown = tickets.assign(left=(100 * tickets["density"]).map("{:.3g} %".format))
    for column, (title, percent, key) in zip(
        st.columns(2, gap="medium"),
        (("test accuracy", True, "accuracy"), ("early stop", False, "stop")),
        strict=True,
    ):
        axis = title if percent else f"{title} (iterations)"
        chart = charts.lines(
            shown, "left", title, "run", titles=("weights left", axis), percent=percent, height=280
        )
        column.plotly_chart(
            chart,
            key=f"{name}-{key}",
            config={"displayModeBar": False},
            alt=f"{axis} against the share of weights left, for each kind of run",
        )


def stored() -> None:
    """What all seeds of the stored runs found, and how to run them again."""
    records = harness.results(STORED)
    st.subheader(f"{len(records)} of {len(STORED.seeds)} stored seeds", anchor=False)
    st.caption(f"{STORED.claim} {STORED.rule} Run again: `slimscope papers {STORED.name} --run`.")
    if not records:
        st.info("No seed of the stored runs is done yet.", icon=":material/hourglass_empty:")
        return
    rows: list[dict[str, Any]] = [row for record in records.values() for row in record["tables"]["tickets"]]
    every = pd.DataFrame(rows)
    middle = every.groupby(["round", "run"], sort=False)[["density", "test accuracy", "early stop"]].median()
    against_density(middle.reset_index(), "stored")
    st.caption(
        f"Medians over {len(records)} seeds. Test was only reported: the early stop is the least validation loss."
    )
    st.dataframe(_published(), hide_index=True, width="stretch", key="published")


def _published() -> pd.DataFrame:
    found = harness.describe(STORED)["figures"]
    return pd.DataFrame(
        {
            "figure": [f["name"] for f in found],
            "published": [f["published"] for f in found],
            "ours, median": [f["median"] for f in found],
            "least": [f["spread"][0] for f in found],
            "most": [f["spread"][1] for f in found],
            "unit": [f["unit"] for f in found],
            "counted": [f["counted"] for f in found],
        }
    )


def own() -> None:
    """The visitor's own draw: rounds against both controls."""
    st.subheader("Draw your own", anchor=False)
    if session.why_idle():
        st.info(session.why_idle())
        return
    left, right = st.columns([1, 2.6], gap="medium")
    with left:
        training.controls(TECHNIQUE)
    with right:
        if jobs.reached(subject, knobs.before(TECHNIQUE)) is None:
            return
        if knobs.find(TECHNIQUE) is None:
            st.info("Add the step to the recipe to train its tickets.", icon=":material/model_training:")
            return
        if (reached := jobs.reached(subject, knobs.through(TECHNIQUE))) is None:
            return
        report = reached[1][-1]
        against_density(report.tables["tickets"], "own")
        st.html(figures.tiles(figures.Tile(f.name.capitalize(), f, figures.said(f)) for f in report.figures))
        st.html("".join(map(figures.caption, report.notes)))


stored()
own()
if cached.original(subject).arch.runs:
    footer(subject)
