"""Frankle 2019: sparse parts of LeNet-300-100 that learn faster and better than the whole, or than others."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from engine.data import sets
from engine.net import zoo
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.techniques.prune.lottery_ticket import RUNS
from engine.types import Basis, Figure, Progress

NET = "lenet-300-100"
SETTINGS: dict[str, Any] = {
    "rounds": 9,
    "rate": 0.2,
    "start": "seed",
    "epochs": 20,
    "learning_rate": 1.2e-3,
    "re_init": True,
    "random_mask": True,
}
TICKET, RE_INIT, _ = RUNS
ROUNDS = {7: "21.1 %", 9: "13.5 %"}  # after which this share of the weights is left
STOP, ACCURACY = "early stop", "test accuracy"


def run(seed: int, progress: Progress, folder: Path) -> Outcome:
    """One net from its own Glorot-normal weights through nine rounds, each with both controls."""
    images = sets.load("mnist")
    bundle = zoo.bundle_of(NET, dict(zoo.seeded(NET, seed).state_dict()))  # only its shape is looked at
    step = technique.step("lottery_ticket", **SETTINGS, seed=seed)
    _, report = apply(bundle, step, images, progress.part(0.0, 1.0, folder=folder))
    tickets = report.tables["tickets"]
    return Outcome(figures(tickets), {"tickets": tickets})


def figures(tickets: pd.DataFrame) -> dict[str, float]:
    """The numbers of one seed: early stop (iterations) and test accuracy there (%), and the paper's own.

    `tickets` is the table of `lottery_ticket`: one row per round and run.
    """
    rows = {(row["round"], row["run"]): row for row in tickets.to_dict("records")}
    whole = rows[0, TICKET]
    found = {f"{STOP}, whole net": whole[STOP], f"{ACCURACY}, whole net": 100 * whole[ACCURACY]}
    for number, density in ROUNDS.items():
        for kind in RUNS:
            found[f"{STOP}, {density} {kind}"] = rows[number, kind][STOP]
            found[f"{ACCURACY}, {density} {kind}"] = 100 * rows[number, kind][ACCURACY]
        ticket, other = rows[number, TICKET], rows[number, RE_INIT]
        found |= {
            f"times as fast as re-init, {density}": other[STOP] / ticket[STOP],
            f"accuracy gain over re-init, {density}": 100 * (ticket[ACCURACY] - other[ACCURACY]),
            f"accuracy gain over the whole net, {density}": 100 * (ticket[ACCURACY] - whole[ACCURACY]),
        }
    found["latest early stop"] = float(tickets[STOP].max())
    return {name: float(value) for name, value in found.items()}


def of_round(tickets: pd.DataFrame, number: int) -> tuple[Figure, ...]:
    """Early stop, and accuracy there, of the whole net and of each run of a round: medians over the seeds.

    `tickets` has the rows of all seeds' tables; a figure's spread is from the least seed to the most.
    """
    named = {(0, TICKET): "the whole net", **{(number, run): f"the {run}" for run in RUNS}}
    found = []
    for (place, run), name in named.items():
        rows = tickets[(tickets["round"] == place) & (tickets["run"] == run)]
        for column, unit in ((STOP, "iterations"), (ACCURACY, "share")) if len(rows) else ():
            how = f"median of {len(rows)} seeds, from the least to the most; stopped early by validation loss"
            spread = float(rows[column].min()), float(rows[column].max())
            middle = float(rows[column].median())
            found.append(Figure(f"{column} of {name}", middle, unit, Basis.MEASURED, how, spread))
    return tuple(found)


def judge(ours: Ours) -> str:
    """Both tickets before whole net and re-init in early stop and accuracy, in the median over the seeds.

    `beaten`: the gains that the paper states are also reached.
    """
    middle = {name: statistics.median(values) for name, values in ours.items()}
    for density in ROUNDS.values():
        for other in ("whole net", f"{density} re-init"):
            sooner = middle[f"{STOP}, {density} ticket"] < middle[f"{STOP}, {other}"]
            better = middle[f"{ACCURACY}, {density} ticket"] > middle[f"{ACCURACY}, {other}"]
            if not (sooner and better):
                return "not reached"
    stated = [claim for claim in CLAIMS if claim.value is not None]
    return "beaten" if all(middle[c.name] >= (c.value or 0.0) for c in stated) else "reproduced"


def _claims() -> tuple[Claim, ...]:
    stops = "iteration of least validation loss, looked at every 100"
    right = "right answers to the 10,000 test images at the early stop"
    published = {
        "times as fast as re-init, 21.1 %": 2.51,
        "accuracy gain over re-init, 21.1 %": 0.5,
        "accuracy gain over the whole net, 13.5 %": 0.3,
    }
    claims = [Claim(f"{STOP}, whole net", None, "iterations", stops)]
    claims += [
        Claim(f"{STOP}, {d} {kind}", None, "iterations", stops) for d in ROUNDS.values() for kind in RUNS
    ]
    claims.append(Claim(f"{ACCURACY}, whole net", None, "%", right))
    claims += [Claim(f"{ACCURACY}, {d} {kind}", None, "%", right) for d in ROUNDS.values() for kind in RUNS]
    for density in ROUNDS.values():
        name = f"times as fast as re-init, {density}"
        claims.append(Claim(name, published.get(name), "times", "early stop of re-init / of the ticket"))
        for other in ("re-init", "the whole net"):
            name = f"accuracy gain over {other}, {density}"
            claims.append(Claim(name, published.get(name), "points", f"test accuracy - that of {other}"))
    claims.append(Claim("latest early stop", None, "iterations", "the largest of all runs of a seed"))
    return tuple(claims)


CLAIMS = _claims()
LOTTERY_TICKET = Paper(
    name="lottery-ticket-mnist",
    paper="Frankle, Carbin 2019, The Lottery Ticket Hypothesis, arXiv 1803.03635, section 2",
    claim="Tickets with 21.1 % and 13.5 % of LeNet-300-100's weights learn faster, and to a higher accuracy, "
    "than the whole net and than the same masks on other weights.",
    claims=CLAIMS,
    recipe={
        "net": NET,
        "lottery_ticket": SETTINGS,
        "inputs": "standardised with mean 0.1307 and deviation 0.3081",
        "shorter": "18,340 iterations a run in place of 50,000; the latest early stop says if that is enough",
    },
    seeds=(0, 1, 2, 3, 4),
    rule="Medians over the seeds: both tickets stop earlier and are more accurate on test than the whole net "
    "and than re-init; beaten where the stated gains are reached as well.",
    judge=judge,
    run=run,
)
