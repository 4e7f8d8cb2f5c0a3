"""Tickets: was the small model in the large one from the start?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st
import torch

from engine import papers
from engine.papers import frankle, harness
from engine.types import Figure
from pages.parts import (
    cached,
    charts,
    figures,
    footer,
    frame,
    jobs,
    keeping,
    knobs,
    session,
    training,
    visitor,
)
from pages.parts.fold import fold
from pages.parts.pictures import kept_legend, of_tensor, side_by_side

PAGE = {
    "title": "Tickets",
    "icon": "confirmation_number",
    "about": "Train what is left again from its first weights.",
    "order": 50,
    "technique": "lottery_ticket",
    "group": "Prune",
}

TECHNIQUE = "lottery_ticket"
STORED = papers.get("lottery-ticket-mnist")

frame.heading(
    "Tickets",
    "Was the small model in the large one from the start? **The same mask on other first weights does not learn as well.**",
    "Train a model, remove its smallest weights, and put the others back to where they began. What is left learns as "
    "well as the whole did, and sooner. A ticket is drawn when the weights are.",
)
subject = session.subject()
frame.header(subject)


def against_density(tickets: pd.DataFrame, name: str, at: float | None = None) -> None:
    """Accuracy and early stop against what is left (%), a line for each kind of run, and one at `at`."""
    shown = tickets.assign(left=100 * tickets["density"])
    for column, (title, percent, key) in zip(
        st.columns(2, gap="medium"),
        (("test accuracy", True, "accuracy"), ("early stop", False, "stop")),
        strict=True,
    ):
        axis = title if percent else f"{title} (iterations)"
        chart = charts.lines(
            shown,
            "left",
            title,
            "run",
            titles=("weights left (%)", axis),
            error=(f"{title}, least", f"{title}, most") if f"{title}, least" in shown else None,
            percent=percent,
            height=280,
            at=at,
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
    groups = every.groupby(["round", "run"], sort=False)[["density", "test accuracy", "early stop"]]
    middle = groups.median().join(groups.min().add_suffix(", least")).join(groups.max().add_suffix(", most"))
    pictures = st.container()
    st.caption(
        f"Medians over {len(records)} seeds, and from the least to the most of them. Test was only reported: the "
        "early stop is the least validation loss. Larger models need to be put back to weights of a little later "
        "(the slider below rewinds)."
    )
    left = (100 * every.drop_duplicates("round").set_index("round")["density"]).to_dict()
    number = st.select_slider(
        "Weights left",
        list(left)[1:],
        max(frankle.ROUNDS),
        format_func=lambda number: f"{left[number]:.1f} %",
        key="stored-round",
        help="Which round's ticket stands beside the whole model and its controls.",
    )
    with pictures:
        against_density(middle.reset_index(), "stored", left[number])
    side_by_side_runs(frankle.of_round(every, number))
    with st.expander("Published and ours"):
        st.html(_published())


def _published() -> str:
    found = harness.describe(STORED)["figures"]
    rows = pd.DataFrame(
        {
            "figure": [f["name"] for f in found],
            "published": ["not stated" if f["published"] is None else f"{f['published']:,g}" for f in found],
            "ours": [f"{f['median']:,.6g}" for f in found],
            "range": [" to ".join(f"{end:,.6g}" for end in f["spread"]) for f in found],
            "unit": [f["unit"] for f in found],
            "counted": [f["counted"] for f in found],
        }
    )
    return figures.table(rows, {name: figures.Column(name) for name in rows})


def side_by_side_runs(found: Sequence[Figure]) -> None:
    """A column for each kind of run of a round: early stop, and accuracy there."""
    runs = {
        "the whole net": "Whole model",
        "the ticket": "Ticket, its own weights",
        "the re-init": "Same mask, other weights",
        "the random mask": "Random mask, own weights",
    }
    shown = {title: [f for f in found if f.name.endswith(f" of {run}")] for run, title in runs.items()}
    present = {title: own for title, own in shown.items() if own}
    for column, (title, own) in zip(st.columns(len(present), gap="small"), present.items(), strict=True):
        column.markdown(f"**{title}**")
        units = ["" if f.unit == "share" else f" ({f.unit})" for f in own]
        names = [f.name.partition(" of ")[0].capitalize() + unit for f, unit in zip(own, units, strict=True)]
        notes = [figures.said(f) for f in own]
        tiles = (figures.Tile(*tile) for tile in zip(names, own, notes, strict=True))
        column.html(figures.tiles(tiles))


def looked_at(inputs: pd.DataFrame) -> None:
    """For each round a picture of how much of the first layer is left at each input."""
    held = cached.images(subject)
    assert held is not None
    height, width = held.train.images.shape[-2:]
    pictures = []
    for number, rows in inputs.groupby("round"):
        share = torch.tensor((rows["kept"] / rows["of"]).to_numpy())
        shape = (height, width) if len(share) == height * width else (1, len(share))
        words = f"round {number}: {rows['kept'].sum() / rows['of'].sum():.1%} left"
        picture = charts.kept_map(share.view(shape), 400)
        pictures.append((of_tensor(picture, f"What is left at each input, {words}", 140), words))
    st.caption("What the ticket's first layer still looks at, input by input:")
    st.html(side_by_side(pictures))
    st.html(kept_legend("weights left (darker is more)", "none left"))


def own() -> None:
    """The visitor's own draw: rounds against both controls."""
    st.subheader("Draw your own", anchor=False)
    if visitor.why_idle():
        st.info(visitor.why_idle())
        return
    left, right = st.columns([1, 2.6], gap="medium")
    with left:
        training.controls(TECHNIQUE)
    with right:
        if jobs.reached(subject, knobs.before(TECHNIQUE)) is None:
            return
        if (reached := jobs.reached(subject, knobs.through(TECHNIQUE))) is None:
            return
        report = reached[1][-1]
        keeping.draw(TECHNIQUE)
        against_density(report.tables["tickets"], "own")
        if "inputs" in report.tables:  # not in results of earlier versions
            looked_at(report.tables["inputs"])
        side_by_side_runs(report.figures)
        st.html("".join(map(figures.caption, report.notes)))


if session.model() == "lenet-300-100":
    stored()
    own()
else:
    own()
    fold("What five seeds found, on LeNet-300-100", "stored", stored)
if cached.original(subject).arch.runs:
    footer.draw(footer.tabs("More"), subject)
