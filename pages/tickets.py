"""Tickets: was the small model in the large one from the start?"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st
import torch

from engine import papers
from engine.papers import frankle, harness
from engine.recipe import technique
from engine.types import Figure, Report, SlimscopeError
from pages.parts import (
    cached,
    charts,
    figures,
    footer,
    frame,
    jobs,
    knobs,
    session,
    training,
    visitor,
    weight_maps,
)
from pages.parts.fold import fold
from pages.parts.lesson import Lesson
from pages.parts.pictures import kept_legend, masks, of_tensor, side_by_side

PAGE = {
    "title": "Lottery tickets",
    "icon": "confirmation_number",
    "about": "Train what is left again from its first weights.",
    "order": 50,
    "technique": "lottery_ticket",
    "group": "Prune",
}

TECHNIQUE = "lottery_ticket"
STORED = papers.get("lottery-ticket-mnist")

frame.heading(
    "Lottery tickets",
    "Was the small model in the large one from the start? **The same mask on other first weights does not learn as well.**",
    "Train a model, remove its smallest weights, and put the others back to where they began. What is left learns as "
    "well as the whole did, and sooner. A ticket is drawn when the weights are.",
)
subject = session.subject()
frame.header(subject, TECHNIQUE)


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
            height=250,
            at=at,
        )
        column.plotly_chart(
            chart,
            key=f"{name}-{key}",
            config={"displayModeBar": False},
            alt=f"{axis} against the share of weights left, for each kind of run",
        )


def every_seed() -> pd.DataFrame:
    """The tickets of all stored seeds."""
    rows: list[dict[str, Any]] = [
        row for record in harness.results(STORED).values() for row in record["tables"]["tickets"]
    ]
    return pd.DataFrame(rows)


def stored() -> int | None:
    """What all stored seeds found, with a slider for the round; None where no seed is done yet."""
    every = every_seed()
    if not len(every):
        st.info("No seed of the stored runs is done yet.", icon=":material/hourglass_empty:")
        return None
    groups = every.groupby(["round", "run"], sort=False)[["density", "test accuracy", "early stop"]]
    middle = groups.median().join(groups.min().add_suffix(", least")).join(groups.max().add_suffix(", most"))
    left = (100 * every.drop_duplicates("round").set_index("round")["density"]).to_dict()
    number = st.select_slider(
        f"Weights left, in {len(harness.results(STORED))} stored seeds of LeNet-300-100",
        list(left)[1:],
        max(frankle.ROUNDS),
        format_func=lambda number: f"{left[number]:.1f} %",
        key="stored-round",
        help="Which round's ticket stands beside the whole model and its controls.",
    )
    against_density(middle.reset_index(), "stored", left[number])
    st.html(f'<div data-live="lesson">{lesson(every, number).html()}</div>')
    return int(number)


def lesson(every: pd.DataFrame, number: int) -> Lesson:
    """The ticket and the same mask on other weights at this round, and how far single seeds are apart."""
    rows = every[every["round"] == number].set_index("run")
    ticket, other = rows.loc["ticket"], rows.loc["re-init"]
    of, accuracy = len(ticket), [100 * one["test accuracy"].median() for one in (ticket, other)]
    stop = [one["early stop"].median() for one in (ticket, other)]
    ends = [100 * end for end in (other["test accuracy"].min(), other["test accuracy"].max())]
    wins = int((ticket["test accuracy"].to_numpy() > other["test accuracy"].to_numpy()).sum())
    return Lesson(
        f"The ticket learns from its first weights: {accuracy[0]:.2f} % after {stop[0]:,.0f} iterations, the same mask on "
        f"other weights {accuracy[1]:.2f} % after {stop[1]:,.0f} (medians).",
        f"One seed proves nothing: with other weights single seeds lie from {ends[0]:.2f} to {ends[1]:.2f} %; the ticket wins "
        f"in {wins} of {of}. Larger models must be put back to weights of a little later (rewinding).",
        wins < of,
    )


def told(number: int) -> None:
    """The chosen round's runs side by side, what was run, and how it compares with the paper."""
    side_by_side_runs(frankle.of_round(every_seed(), number))
    st.caption(
        f"{STORED.claim} {STORED.rule} Medians over the seeds, and from the least to the most of them. Test was only "
        f"reported: the early stop is the least validation loss. Run again: `slimscope papers {STORED.name} --run`."
    )
    with st.expander("Published and ours"):
        st.html(_published())


def elsewhere() -> None:
    """The stored seeds on a page that is about another model."""
    number = stored()
    if number is not None:
        told(number)


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
        picture = weight_maps.kept_map(share.view(shape), 400)
        pictures.append((of_tensor(picture, f"What is left at each input, {words}", 140), words))
    st.caption("What the ticket's first layer still looks at, input by input:")
    st.html(side_by_side(pictures))
    st.html(kept_legend("weights left (darker is more)", "none left"))


def own() -> None:
    """The visitor's own draw: rounds against both controls, and the masks."""
    st.subheader("Draw your own", anchor=False)
    if visitor.why_idle():
        st.info(visitor.why_idle())
        return
    with st.container(key="own-draw"):
        training.controls(TECHNIQUE)
    before = jobs.reached(subject, knobs.before(TECHNIQUE))
    reached = before and jobs.reached(subject, knobs.through(TECHNIQUE))
    if not before or not reached:
        return
    report = reached[1][-1]
    masks.draw(before[0], report, other_seeds())
    fold("Round by round", "own-rounds", lambda: by_round(report))
    st.html("".join(map(figures.caption, report.notes)))


def by_round(report: Report) -> None:
    """What each round's runs learned, and which inputs its ticket still looks at."""
    side_by_side_runs(report.figures)
    against_density(report.tables["tickets"], "own")
    if "inputs" in report.tables:  # not in results of earlier versions
        looked_at(report.tables["inputs"])


def other_seeds() -> dict[int, Report]:
    """The reports of this ticket as other seeds drew it, where they are trained: the controls change no mask."""
    settings, found = knobs.current(TECHNIQUE).settings, {}
    for seed in {0, 1, 2} - {settings["seed"]}:
        for re_init in (True, False):
            step = technique.step(TECHNIQUE, **{**settings, "seed": seed, "re_init": re_init})
            with suppress(SlimscopeError):
                report = cached.after(subject, knobs.before(TECHNIQUE).then(step).key)[1][-1]
                if "masks" in report.tables:
                    found[seed] = report
    return found


with st.container(key="workbench"):
    if session.model() == "lenet-300-100":
        number = stored()
    else:
        number = None
        own()
tabs = footer.tabs()
with tabs[0]:
    if session.model() == "lenet-300-100":
        if number is not None:
            told(number)
        own()
    else:
        fold("What five seeds found, on LeNet-300-100", "stored", elsewhere)
if cached.original(subject).arch.runs:
    footer.draw(tabs, subject)
