"""Lottery ticket: train, prune, put what is left back to where it began, and train again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import pandas as pd
import torch
from torch import nn

from engine.data.sets import Data
from engine.figures import measure, reports, training
from engine.net import sources, zoo
from engine.net.beginnings import State, first_weights, other_weights
from engine.net.train import Plan
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider, Toggle
from engine.recipe.technique import Cost, technique
from engine.tensor import masks, tickets
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, Progress, Report, weight_layers

BATCH = 60
WATCH_EVERY = 100  # iterations between two looks at the validation loss
RUNS = ("ticket", "re-init", "random mask")  # what a row of the live series has a number for


@technique(
    family="prune",
    title="Lottery ticket",
    reference="Frankle, Carbin 2019, The Lottery Ticket Hypothesis, arXiv 1803.03635; "
    "rewinding: Frankle et al. 2020, arXiv 1912.05671",
    page="tickets",
    stage=400,
    runs="trains",
    cost=lambda chosen: Cost(  # the whole net, and in each round the ticket and its controls
        chosen["epochs"] * (1 + chosen["rounds"] * (1 + chosen["re_init"] + chosen["random_mask"]))
    ),
    locality="model",
    tables={
        "tickets": (
            "round",
            "run",
            "density",
            "early stop",
            "validation loss",
            "validation accuracy",
            "test accuracy",
            "accuracy at the end",
            "iterations",
        ),
        "curve": ("epoch", "iteration", "validation loss", "validation accuracy", "run", "round"),
        "inputs": ("input", "kept", "of", "round"),
        "layers": ("layer", "weights", "kept", "removed", "sparsity"),
        "masks": ("layer", "shape", "gone"),
    },
    series=RUNS,
    presets={"gentle": {"rounds": 3}, "balanced": {"rounds": 7}, "extreme": {"rounds": 12}},
    possible=sources.need_classes,
)
def lottery_ticket(
    bundle: Bundle,
    data: Data,
    *,
    rounds: Annotated[
        int,
        Slider(
            low=1,
            high=25,
            whole=True,
            unit="rounds",
            label="Rounds",
            help="How often the model is trained, pruned and put back.",
        ),
    ] = 7,
    rate: Annotated[
        float,
        Slider(
            low=0.05,
            high=0.8,
            step=0.05,
            unit="share of the weights left",
            percent=True,
            label="Pruned each round",
            help="How much of each layer goes in a round; the output layer loses half of that share.",
        ),
    ] = 0.2,
    start: Annotated[
        str,
        Choice(
            label="First weights",
            help="Where the training begins, and what the tickets are put back to.",
            options={
                "zoo": "the weights that the zoo's model had before its training",
                "seed": "new Glorot-normal weights and zero biases, drawn by the seed",
            },
        ),
    ] = "zoo",
    rewind: Annotated[
        int,
        Slider(
            low=0,
            high=10,
            whole=True,
            unit="epochs",
            label="Rewind to",
            help="After how many epochs of the whole model the weights are kept; deep models need a few.",
        ),
    ] = 0,
    epochs: Annotated[
        int, settings.epochs("How often each run sees all training samples, in batches of 60.", high=60)
    ] = 6,
    learning_rate: Annotated[
        float, settings.learning_rate("How far Adam moves the weights at the most; it stays the same.")
    ] = 1.2e-3,
    re_init: Annotated[
        bool,
        Toggle(
            label="Other weights",
            help="Also trains each ticket's mask on other random weights, to see if the first ones matter.",
        ),
    ] = True,
    random_mask: Annotated[
        bool,
        Toggle(
            label="Random mask",
            help="Also trains the first weights under a random mask of the same density in each layer.",
        ),
    ] = False,
    seed: Annotated[
        int, settings.seed("Fixes the drawn weights, the random masks and the order of the training samples.")
    ] = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Finds a sparse part of the model that learns from its first weights as well as the whole model did.

    Each round trains, removes the smallest weights of each layer, and puts the others back. The
    model's trained values are not looked at; its zeros stay. Adam without weight decay, batch 60.
    Every run is judged at its early stop: the least validation loss of all that are taken each
    100 iterations and at the end. The result is the last ticket there. Raises SlimscopeError where
    the zoo has no first weights for the model, and Cancelled through `progress`.
    """
    sources.need_classes(bundle)
    names = weight_layers(bundle)
    plan = Plan(
        epochs, learning_rate, optimizer="adam", schedule="constant", batch=BATCH, weight_decay=0.0, seed=seed
    )
    others = [run for run, wanted in zip(RUNS[1:], (re_init, random_mask), strict=True) if wanted]
    race = _Race(bundle, data, plan, progress, 1 + rounds * (1 + len(others)))
    theta = first_weights(bundle, start, seed)
    if rewind:
        theta = race.warm_up(theta, rewind)
    mask = {name: bundle.params[name].decode() != 0 for name in names.values()}
    ticket, seen, drawings = race.run("ticket", 0, theta, mask), [], [mask]
    for number in range(1, rounds + 1):
        mask = tickets.pruned(ticket.end, mask, rate, list(names.values())[-1])
        ticket = race.run("ticket", number, theta, mask)
        drawings.append(mask)
        seen.append(tickets.per_input(mask[next(iter(names.values()))]).assign(round=number))
        drawn = 1_000_000 * (number + 1) + seed  # never the seed of the first weights
        if re_init:
            race.run("re-init", number, other_weights(bundle, start, drawn), mask)
        if random_mask:
            race.run("random mask", number, theta, tickets.shuffled(mask, drawn))
    after = bundle.become({name: Dense(ticket.best[name].contiguous()) for name in bundle.params})
    table = pd.DataFrame(race.tickets)
    tables = {"tickets": table, "curve": pd.concat(race.curves, ignore_index=True)}
    tables["inputs"] = pd.concat(seen, ignore_index=True)
    tables["layers"] = pd.DataFrame(
        [{"layer": label, **masks.counted(mask[name])} for label, name in names.items()]
    )
    tables["masks"] = pd.DataFrame(
        [
            {"layer": label, **tickets.packed(tickets.gone_in([each[name] for each in drawings]))}
            for label, name in names.items()
        ]
    )
    return after, Report(
        _figures(table, rounds, len(data.validation)), tables, _notes(bundle, data, plan, table)
    )


# ---------------------------------------------------------------- the runs


@dataclass(frozen=True)
class _Trained:
    """One run: its weights at the end and at the early stop."""

    end: State
    best: State


@dataclass
class _Race:
    """All runs alike: the same images in the same order, the same plan; what they brought so far."""

    bundle: Bundle
    data: Data
    plan: Plan
    progress: Progress
    runs: int  # how many there will be
    tickets: list[dict[str, Any]] = field(default_factory=list)
    curves: list[pd.DataFrame] = field(default_factory=list)

    def warm_up(self, theta: State, epochs: int) -> State:
        """The whole net's weights after some epochs."""
        net = self._net(theta, {})
        silent = Progress(cancelled=self.progress.cancelled)
        self._train(
            net, replace(self.plan, epochs=epochs), "rewind", told=silent, watch=lambda net: {}, masks={}
        )
        return training.state_of(net, self.bundle)

    def _train(self, net: nn.Module, plan: Plan, name: str, **rest: Any) -> list[dict[str, float]]:
        return training.tune(net, self.data, plan, self.progress, name, digits=0, **rest)

    def run(self, kind: str, number: int, theta: State, mask: State) -> _Trained:
        """Train `theta` under a mask and note its early stop."""
        net = self._net(theta, mask)
        name, done = f"{kind.replace(' ', '-')}-{number}", len(self.tickets)
        which = float(RUNS.index(kind))

        def told(row: Mapping[str, float]) -> dict[str, float]:
            return {**row, "round": float(number), "run": which}

        best = training.BestWatch(self.data.validation, self.bundle, self.progress.checkpoint(f"{name}-best"))
        rows = self._train(
            net,
            self.plan,
            name,
            masks={layer: kept.float() for layer, kept in mask.items()},
            watch=best,
            watch_every=WATCH_EVERY,
            told=self.progress.part(done / self.runs, (done + 1) / self.runs, told),
        )
        steps = math.ceil(len(self.data.train) / self.plan.batch)
        seen = [
            {"epoch": row["epoch"], "iteration": round(row["epoch"] * steps)}
            | {key: row[key] for key in ("validation loss", "validation accuracy")}
            for row in rows
            if "validation loss" in row
        ]
        stop = early_stop(seen)
        kept = sum(int(m.count_nonzero()) for m in mask.values())
        row = {
            "round": number,
            "run": kind,
            "density": kept / sum(m.numel() for m in mask.values()),
            "early stop": stop["iteration"],
            "validation loss": stop["validation loss"],
            "validation accuracy": stop["validation accuracy"],
            "test accuracy": measure.share_right(self._net(best.state(), {}), self.data.test),
            "accuracy at the end": seen[-1]["validation accuracy"],
            "iterations": seen[-1]["iteration"],
        }
        self.tickets.append(row)
        label = "whole net" if number == 0 else f"{kind}, {row['density']:.1%}"
        self.curves.append(pd.DataFrame(seen).assign(run=label, round=number))
        return _Trained(training.state_of(net, self.bundle), best.state())

    def _net(self, theta: State, mask: State) -> nn.Module:
        values = {
            name: Dense(torch.where(mask[name], t, 0.0) if name in mask else t) for name, t in theta.items()
        }
        return zoo.fork(self.bundle.become(values))


def early_stop(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first of the rows with the least validation loss."""
    return min(rows, key=lambda row: float(row["validation loss"]))


# ---------------------------------------------------------------- the report


def _figures(tickets: pd.DataFrame, rounds: int, n: int) -> tuple[Figure, ...]:
    """The whole net, and every run of the last round: early stop, and accuracy there on n samples."""
    named = {"the whole net": tickets.iloc[0]}
    named |= {f"the {row['run']}": row for _, row in tickets[tickets["round"] == rounds].iterrows()}
    density = named["the ticket"]["density"]
    figures = [Figure("density", density, "share", Basis.COUNTED, "weights left / weights; biases left out")]
    for name, row in named.items():
        figures += [
            Figure(
                f"early stop of {name}",
                int(row["early stop"]),
                "iterations",
                Basis.MEASURED,
                f"least validation loss of {row['iterations']:,} iterations, looked at every {WATCH_EVERY}",
            ),
            Figure(
                f"validation accuracy of {name}",
                float(row["validation accuracy"]),
                "share",
                Basis.MEASURED,
                f"right answers of {n:,} validation samples at the early stop, one run; Wilson 95 % interval",
                measure.wilson(round(row["validation accuracy"] * n), n),
            ),
        ]
    return tuple(figures)


def _notes(bundle: Bundle, data: Data, plan: Plan, tickets: pd.DataFrame) -> tuple[str, ...]:
    epochs = f"{plan.epochs} epoch{'s' * (plan.epochs > 1)}"
    notes = [
        f"Each run: {epochs} over {len(data.train):,} samples of {data.name}.",
        "One seed proves little: the order of two runs can change with it.",
    ]
    open_ = tickets[tickets["early stop"] == tickets["iterations"]]
    if len(open_):
        notes.append(
            f"{len(open_)} of {len(tickets)} runs had their least validation loss at the very end: they were "
            "still learning, and more epochs would show where they stop."
        )
    notes += reports.decoded(bundle)
    return tuple(notes)
