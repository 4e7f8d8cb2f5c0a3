"""Lottery ticket: train, prune, put what is left back to where it began, and train again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Data, Samples
from engine.figures import measure, reports
from engine.net import zoo
from engine.net.train import Plan, fit, suited
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider, Toggle
from engine.recipe.technique import Cost, technique
from engine.tensor import masks
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, Progress, Report, SlimscopeError, weight_layers

BATCH = 60
WATCH_EVERY = 100  # iterations between two looks at the validation loss
RUNS = ("ticket", "re-init", "random mask")  # what a row of the live series has a number for
State = dict[str, Tensor]


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
    },
    series=RUNS,
    presets={
        "gentle": {"rounds": 3},
        "balanced": {"rounds": 7},
        "extreme": {"rounds": 12},
    },
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
            help="How often the net is trained, pruned and put back.",
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
                "zoo": "the weights that the zoo's net had before its training",
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
            help="After how many epochs of the whole net the weights are kept; deep nets need a few.",
        ),
    ] = 0,
    epochs: Annotated[
        int,
        settings.epochs("How often each run sees all training images, in batches of 60.", high=60),
    ] = 6,
    learning_rate: Annotated[
        float,
        settings.learning_rate("How far Adam moves the weights at the most; it stays the same."),
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
        int,
        settings.seed("Fixes the drawn weights, the random masks and the order of the training images."),
    ] = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Finds a sparse part of the net that learns from its first weights as well as the whole net did.

    Each round trains, removes the smallest weights of each layer, and puts the others back. The
    net's trained values are not looked at; its zeros stay. Adam without weight decay, batch 60.
    Every run is judged at its early stop: the least validation loss of all that are taken each
    100 iterations and at the end. The result is the last ticket there. Raises SlimscopeError where
    the zoo has no first weights for the net, and Cancelled through `progress`.
    """
    names = weight_layers(bundle)
    plan = Plan(
        epochs, learning_rate, optimizer="adam", schedule="constant", batch=BATCH, weight_decay=0.0, seed=seed
    )
    plan = suited(plan, zoo.fork(bundle), data.train, digits=0)
    others = [run for run, wanted in zip(RUNS[1:], (re_init, random_mask), strict=True) if wanted]
    race = _Race(bundle, data, plan, progress, 1 + rounds * (1 + len(others)))
    theta = _first(bundle, start, seed)
    if rewind:
        theta = race.warm_up(theta, rewind)
    mask = {name: bundle.params[name].decode() != 0 for name in names.values()}
    ticket, seen = race.run("ticket", 0, theta, mask), []
    for number in range(1, rounds + 1):
        mask = pruned(ticket.end, mask, rate, list(names.values())[-1])
        ticket = race.run("ticket", number, theta, mask)
        seen.append(per_input(mask[next(iter(names.values()))]).assign(round=number))
        drawn = 1_000_000 * (number + 1) + seed  # never the seed of the first weights
        if re_init:
            race.run("re-init", number, _drawn(bundle, start, drawn), mask)
        if random_mask:
            race.run("random mask", number, theta, shuffled(mask, drawn))
    after = bundle.become({name: Dense(ticket.best[name].contiguous()) for name in bundle.params})
    tickets = pd.DataFrame(race.tickets)
    tables = {"tickets": tickets, "curve": pd.concat(race.curves, ignore_index=True)}
    tables["inputs"] = pd.concat(seen, ignore_index=True)
    tables["layers"] = pd.DataFrame(
        [{"layer": label, **masks.counted(mask[name])} for label, name in names.items()]
    )
    return after, Report(
        _figures(tickets, rounds, len(data.validation)), tables, _notes(bundle, data, plan, tickets)
    )


# ---------------------------------------------------------------- masks


def pruned(trained: Mapping[str, Tensor], mask: Mapping[str, Tensor], rate: float, output: str) -> State:
    """The mask without the smallest `rate` of each layer's surviving weights, half as many in `output`.

    Keys are parameter names, masks are bool. The number removed is rounded to whole weights.

    >>> weights = {"fc": torch.tensor([3.0, -1.0, 0.0, 2.0, 4.0])}
    >>> pruned(weights, {"fc": weights["fc"] != 0}, 0.5, "fc")["fc"].tolist()
    [True, False, False, True, True]
    """
    left = {}
    for name, kept in mask.items():
        survivors = int(kept.count_nonzero())
        going = round((rate / 2 if name == output else rate) * survivors)
        zeros = kept.numel() - survivors + going
        left[name] = masks.by_sparsity(trained[name] * kept, zeros / kept.numel())
    return left


def per_input(mask: Tensor) -> pd.DataFrame:
    """How many of the first layer's weights stay at each input: columns input, kept, of.

    The mask is (outputs, inputs) or (outputs, inputs, height, width): each place of a kernel is an input.

    >>> per_input(torch.tensor([[True, False], [True, True]])).to_dict("list")
    {'input': [0, 1], 'kept': [2, 1], 'of': [2, 2]}
    """
    kept = mask.flatten(1).sum(0)
    return pd.DataFrame({"input": range(len(kept)), "kept": kept.tolist(), "of": len(mask)})


def shuffled(mask: Mapping[str, Tensor], seed: int) -> State:
    """A random mask with as many weights in each layer, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view(kept.shape)
        for name, kept in mask.items()
    }


# ---------------------------------------------------------------- first weights


def _first(bundle: Bundle, start: str, seed: int) -> State:
    if start == "seed":
        return glorot(bundle, seed)
    if bundle.arch.edits:
        raise SlimscopeError(
            f"start is 'zoo': this net has layers that {bundle.arch.name} had not in its first weights; "
            "allowed is 'seed'"
        )
    return zoo.initial(bundle.arch.name).state()


def _drawn(bundle: Bundle, start: str, seed: int) -> State:
    """Other first weights of the same distribution."""
    if start == "seed":
        return glorot(bundle, seed)
    net = zoo.seeded(bundle.arch.name, seed)
    return {name: tensor.detach() for name, tensor in net.state_dict().items() if name in bundle.params}


def glorot(bundle: Bundle, seed: int) -> State:
    """New first values for every parameter: weights N(0, 2 / (fan in + fan out)), biases zero.

    A kernel's fans count its area. Normalisation starts at mean 0 and variance 1; quantizers of
    inputs stay. (Glorot, Bengio 2010, Understanding the difficulty of training deep networks)
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _new_value(name, tensor, generator) for name, tensor in bundle.state().items()}


def _new_value(name: str, old: Tensor, generator: torch.Generator) -> Tensor:
    if old.dim() >= 2:
        area = math.prod(old.shape[2:])
        deviation = math.sqrt(2 / (area * (old.shape[0] + old.shape[1])))
        return torch.randn(old.shape, generator=generator) * deviation
    if ".input_quantizer." in name:
        return old
    zero = "bias" in name or name.endswith("running_mean")
    return torch.zeros_like(old) if zero else torch.ones_like(old)


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
        fit(
            net,
            self.data.train,
            replace(self.plan, epochs=epochs),
            progress=Progress(cancelled=self.progress.cancelled),
            checkpoint=self.progress.checkpoint("rewind"),
        )
        return _state(net, self.bundle)

    def run(self, kind: str, number: int, theta: State, mask: State) -> _Trained:
        """Train `theta` under a mask and note its early stop."""
        net = self._net(theta, mask)
        name, done = f"{kind.replace(' ', '-')}-{number}", len(self.tickets)
        which = float(RUNS.index(kind))

        def told(row: Mapping[str, float]) -> dict[str, float]:
            return {**row, "round": float(number), "run": which}

        best = _Best(self.data.validation, self.bundle, self.progress.checkpoint(f"{name}-best"))
        rows = fit(
            net,
            self.data.train,
            self.plan,
            masks={layer: kept.float() for layer, kept in mask.items()},
            watch=best.watch,
            watch_every=WATCH_EVERY,
            progress=self.progress.part(done / self.runs, (done + 1) / self.runs, told),
            checkpoint=self.progress.checkpoint(name),
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
        return _Trained(_state(net, self.bundle), best.state())

    def _net(self, theta: State, mask: State) -> nn.Module:
        values = {
            name: Dense(torch.where(mask[name], t, 0.0) if name in mask else t) for name, t in theta.items()
        }
        return zoo.fork(self.bundle.become(values))


def early_stop(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first of the rows with the least validation loss."""
    return min(rows, key=lambda row: float(row["validation loss"]))


class _Best:
    """Watches a run on validation and keeps the weights at the least loss, also over a resumption."""

    def __init__(self, samples: Samples, bundle: Bundle, path: Path | None) -> None:
        self.samples, self.bundle, self.path = samples, bundle, path
        self.kept: dict[str, Any] | None = None
        if path is not None and path.exists():
            self.kept = torch.load(path, weights_only=True)

    def watch(self, net: nn.Module) -> dict[str, float]:
        answers = measure.logits(net, self.samples)
        loss = float(F.cross_entropy(answers, self.samples.labels))
        right = float((answers.argmax(1) == self.samples.labels).float().mean())
        if self.kept is None or loss < self.kept["loss"]:
            self.kept = {"loss": loss, "state": _state(net, self.bundle)}
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                partial = self.path.with_suffix(".partial")
                torch.save(self.kept, partial)
                partial.replace(self.path)
        return {"validation loss": loss, "validation accuracy": right}

    def state(self) -> State:
        assert self.kept is not None  # the end of a run is always watched
        return dict(self.kept["state"])


def _state(net: nn.Module, bundle: Bundle) -> State:
    state = net.state_dict()
    return {name: state[name].detach().clone().contiguous() for name in bundle.params}


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
        f"Each run: {epochs} over {len(data.train):,} images of {data.name}.",
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
