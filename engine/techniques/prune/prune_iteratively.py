"""Prune iteratively: remove the smallest weights, train the others from their values, and again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data, Samples
from engine.figures import measure, reports, sensitivity, training
from engine.net import ensembles, zoo
from engine.net.train import Loss, Plan, Prune, zero_masks
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import Cost, technique
from engine.tensor import masks, schedules
from engine.types import Bundle, Progress, Report, weight_layers

INTERVAL = 100  # batches between two prunings while the net trains
OVER = 0.75  # share of a gradual training after which no more weights are removed

ANSWERS = {"none": 0.0, "original": 1 / 3, "zoo": 3.0}  # of a pass forward and back, what teachers take
TAUGHT = (("teacher", ("original", "zoo")),)  # where the settings of a teacher matter


def cost(chosen: Mapping[str, Any]) -> Cost:
    """All epochs of all rounds, and the teachers' answers."""
    epochs = chosen["epochs"] * (chosen["rounds"] if chosen["schedule"] == "rounds" else 1)
    return Cost(math.ceil(epochs * (1 + ANSWERS[chosen["teacher"]])))


@technique(
    family="prune",
    title="Prune iteratively",
    reference="Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626; "
    "Zhu, Gupta 2017, arXiv 1710.01878",
    page="prune",
    stage=410,
    runs="trains",
    cost=cost,
    locality="model",
    tables={
        "curve": ("epoch", "loss", "train accuracy", "validation accuracy", "sparsity", "round"),
        "rounds": ("round", "sparsity", "accuracy before retraining", "accuracy after retraining"),
        "sensitivity": ("layer", "sparsity", "threshold", "accuracy"),
        "layers": reports.LAYER_COLUMNS,
    },
    presets={
        "gentle": {"sparsity": 0.8, "rounds": 3},
        "balanced": {"sparsity": 0.92, "rounds": 5},
        "extreme": {"sparsity": 0.98, "rounds": 10},
    },
)
def prune_iteratively(
    bundle: Bundle,
    data: Data,
    *,
    sparsity: Annotated[
        float,
        settings.sparsity(
            "How many of the weights are zero at the end: 0.92 leaves one in twelve.", label="Final sparsity"
        ),
    ] = 0.92,
    schedule: Annotated[
        str,
        Choice(
            label="Schedule",
            help="When weights are removed.",
            options={
                "rounds": "prune, train, prune again: each round removes the same share of what is left",
                "gradual": "while the model trains: many at first, then fewer and fewer",
            },
        ),
    ] = "rounds",
    rounds: Annotated[
        int,
        Slider(
            low=1,
            high=20,
            whole=True,
            unit="rounds",
            label="Rounds",
            help="How often the model is pruned and trained again; one round prunes all at once.",
            when=(("schedule", ("rounds",)),),
        ),
    ] = 5,
    epochs: Annotated[
        int,
        settings.epochs(
            "How often the model sees all training samples: in each round, or in all where it is gradual.",
            high=60,
        ),
    ] = 2,
    allocation: Annotated[
        str,
        Choice(
            label="Allocation",
            help="Where weights compete for survival, and in which unit their size is taken.",
            options={
                "quality": "Han's rule: a layer's threshold is the same multiple of its standard deviation",
                "sensitivity": "each layer's threshold in proportion to the largest that it tolerates alone",
                "global": "one ranking over all layers: layers of small weights lose more",
                "layer": "every layer loses the same share",
            },
        ),
    ] = "global",
    learning_rate: Annotated[
        float,
        settings.learning_rate(
            "A tenth of the first training's is usual; in each round it falls to zero along a cosine."
        ),
    ] = 0.01,
    weight_decay: settings.WeightDecay = 1e-4,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are trained, but not pruned.")] = (),
    teacher: Annotated[str, settings.learns_from(zoo=True)] = "none",
    temperature: Annotated[float, settings.temperature(TAUGHT, added=True)] = 4.0,
    alpha: Annotated[float, settings.teacher_share(TAUGHT, added=True)] = 0.7,
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Removes the smallest weights and trains the others from the values they have, in rounds or gradually.

    What is removed once stays exactly zero. Biases and normalisation are trained, not pruned.
    Stochastic gradient descent with Nesterov momentum 0.9, batch 128. The result is 32-bit floats. With a
    teacher the loss is alpha T^2 KL(teacher || model) + (1 - alpha) cross-entropy (arXiv 1503.02531).
    Raises Cancelled through `progress`.
    """
    net = zoo.fork(bundle)
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    units, scan = _units(net, names, allocation, data.validation, progress)
    ranking = _Ranking(names, units)
    plan = Plan(epochs, learning_rate, schedule="cosine", weight_decay=weight_decay, seed=seed)
    loss = ensembles.lesson(bundle, data, teacher, temperature, alpha)
    run = _Run(net, data, plan, ranking, loss, progress)
    if schedule == "gradual":
        tables = {"curve": _gradually(run, sparsity)}
    else:
        tables = _in_rounds(run, schedules.geometric(sparsity, rounds, ranking.zeros(net)))
    after = training.trained(bundle, net)
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    kept = {label: after.params[name].decode() != 0 for label, name in names.items()}
    tables["layers"] = layers = reports.layer_table(values, kept)
    if scan is not None:
        tables["sensitivity"] = scan
    figures = (*reports.removed(layers), *training.change(bundle, after, data.validation))
    return after, Report(figures, tables, _notes(bundle, data, layers, leave_out))


# ---------------------------------------------------------------- which weights go


@dataclass(frozen=True)
class _Ranking:
    """All weights of the chosen layers (label -> parameter) in one order: by size over the layer's unit.

    Without units every layer has a ranking of its own.
    """

    names: Mapping[str, str]
    units: Mapping[str, float] | None

    def kept(self, net: nn.Module, sparsity: float) -> dict[str, Tensor]:
        """Parameter name -> 1 where its weight stays when `sparsity` of all are zero, else 0."""
        weights = {label: net.get_parameter(name).detach() for label, name in self.names.items()}
        if self.units is None:
            chosen = [masks.by_sparsity(w, sparsity) for w in weights.values()]
        else:
            scaled = [w / self.units[label] for label, w in weights.items()]
            chosen = masks.by_sparsity_over(scaled, sparsity)
        return {name: mask.float() for name, mask in zip(self.names.values(), chosen, strict=True)}

    def zeros(self, net: nn.Module) -> float:
        """Share of the weights that are exactly zero."""
        weights = [net.get_parameter(name) for name in self.names.values()]
        zeros = sum(int((w == 0).sum()) for w in weights)
        return zeros / max(sum(w.numel() for w in weights), 1)


def _units(
    net: nn.Module, names: Mapping[str, str], allocation: str, samples: Samples, progress: Progress
) -> tuple[Mapping[str, float] | None, pd.DataFrame | None]:
    """What a layer's weights are measured in, and the scan where there was one.

    All units are those of the net as it comes: the deviation is over all weights of a layer,
    and stays when they are pruned.
    """
    weights = {label: net.get_parameter(name) for label, name in names.items()}
    tiny = torch.finfo(torch.float32).tiny  # a layer of equal weights has no deviation
    match allocation:
        case "layer":
            return None, None
        case "quality":
            return {label: max(masks.quality_threshold(w, 1.0), tiny) for label, w in weights.items()}, None
        case "sensitivity":
            scan = sensitivity.scan(net, names, samples.stratified(sensitivity.SCANNED), progress)
            borne = zip(scan["layer"], scan["threshold"], strict=True)
            return {label: max(threshold, tiny) for label, threshold in borne}, scan
    return dict.fromkeys(names, 1.0), None


# ---------------------------------------------------------------- when they go


@dataclass(frozen=True)
class _Run:
    """What all rounds share: the net in training, images, plan, ranking and who is told."""

    net: nn.Module
    data: Data
    plan: Plan
    ranking: _Ranking
    loss: Loss
    progress: Progress

    def right(self, net: nn.Module) -> float:
        return measure.share_right(net, self.data.validation)

    def watch(self, net: nn.Module) -> dict[str, float]:
        return {"validation accuracy": self.right(net), "sparsity": self.ranking.zeros(net)}

    def train(
        self, plan: Plan, name: str, *, told: Progress | None = None, prune: Prune | None = None
    ) -> list[dict[str, float]]:
        return training.tune(
            self.net,
            self.data,
            plan,
            self.progress,
            name,
            told=told,
            loss=self.loss,
            prune=prune,
            watch=self.watch,
        )


def _in_rounds(run: _Run, sparsities: Sequence[float]) -> dict[str, pd.DataFrame]:
    """Prune to each sparsity in turn, each time followed by a training that begins at a full rate."""
    rows, series = [], []
    for number, sparsity in enumerate(sparsities, 1):
        with torch.no_grad():
            for name, kept in run.ranking.kept(run.net, sparsity).items():
                run.net.get_parameter(name).masked_fill_(kept == 0, 0.0)
        pruned = {"round": number, "sparsity": run.ranking.zeros(run.net), "before": run.right(run.net)}
        done = (number - 1) * run.plan.epochs
        told = run.progress.part(
            (number - 1) / len(sparsities), number / len(sparsities), training.later(done)
        )
        plan = replace(run.plan, seed=100 * run.plan.seed + number)
        learned = run.train(plan, f"round-{number}", told=told)
        rows.append({**pruned, "after": learned[-1]["validation accuracy"]})
        series += [{**row, "epoch": done + int(row["epoch"]), "round": number} for row in learned]
    table = pd.DataFrame(rows).rename(
        columns={"before": "accuracy before retraining", "after": "accuracy after retraining"}
    )
    return {"curve": pd.DataFrame(series), "rounds": table}


def _gradually(run: _Run, sparsity: float) -> pd.DataFrame:
    """One training in which weights are removed every INTERVAL batches along the cubic curve."""
    steps = run.plan.epochs * math.ceil(len(run.data.train) / run.plan.batch)
    events = schedules.gradual(steps, INTERVAL, OVER, sparsity, run.ranking.zeros(run.net))

    def prune(net: nn.Module, batches: int) -> dict[str, Tensor] | None:
        if batches not in events:
            return None
        return {**zero_masks(net), **run.ranking.kept(net, events[batches])}

    return training.curve(run.train(run.plan, "net", prune=prune))


# ---------------------------------------------------------------- the report


def _notes(bundle: Bundle, data: Data, layers: pd.DataFrame, leave_out: Sequence[str]) -> tuple[str, ...]:
    return (
        reports.trained_on(data),
        *reports.emptied(layers),
        *reports.named("Trained, but not pruned:", leave_out),
        *reports.decoded(bundle),
    )
