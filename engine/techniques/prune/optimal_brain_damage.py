"""Optimal brain damage: remove the weights without which the loss should grow least, and look if it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Data, Samples
from engine.figures import count, reports
from engine.memory import remembered
from engine.net import curvature, incremental, kinds, zoo
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import technique
from engine.tensor import masks, scores
from engine.types import Basis, Bundle, Figure, Report, weight_layers

MOST, LEAST = 200, 24  # single weights that are taken out by turns
EFFORT = 6e10  # units of work (`kinds.work`) that may go into them
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # of the weights, removed together
ONE, SALIENCY, MAGNITUDE = "one weight", "lowest saliency", "smallest magnitude"
LAYER_COLUMNS = (
    "layer",
    "weights",
    "kept",
    "removed",
    "sparsity",
    "threshold",
    "energy_kept",
    "predicted",
)
SINGLE_COLUMNS = ("removed", "layer", "weights", "magnitude", "predicted", "slope", "measured")


@technique(
    family="prune",
    title="Optimal brain damage",
    reference="LeCun, Denker, Solla 1989, Optimal Brain Damage, NIPS 2",
    page="damage",
    stage=500,
    runs="seconds",
    locality="model",
    tables={
        "layers": LAYER_COLUMNS,
        "predicted": (*SINGLE_COLUMNS, "both"),
    },
    presets={
        "gentle": {"sparsity": 0.3},
        "balanced": {"sparsity": 0.6},
        "extreme": {"sparsity": 0.9},
    },
    needs_net=True,
)
def optimal_brain_damage(
    bundle: Bundle,
    data: Data,
    *,
    sparsity: Annotated[
        float,
        settings.sparsity("How many of the weights become zero, those of lowest saliency first."),
    ] = 0.6,
    allocation: Annotated[
        str,
        Choice(
            label="Allocation",
            help="Where weights compete for survival: inside their layer, or all against all.",
            options={
                "layer": "every layer loses the same share",
                "global": "one ranking over all layers: saliencies are changes of one and the same loss",
                "erk": "small layers lose less, by the sum of their sides over its product (Evci 2020)",
            },
        ),
    ] = "global",
    samples: Annotated[
        int,
        settings.samples("On how many training samples curvature and loss are taken."),
    ] = 200,
    seed: Annotated[
        int,
        settings.seed("Fixes the training samples, and the single weights that are taken out by turns."),
    ] = 0,
) -> tuple[Bundle, Report]:
    """Removes the weights of lowest saliency h w^2 / 2, the rise of the loss that curvature predicts.

    h is the exact diagonal of the Gauss-Newton matrix of the cross-entropy. The report sets predictions
    against the truth, on the same samples: for single weights, each taken out by itself, and for
    growing groups. Zeros stay; biases and normalisation are not touched. Nothing is trained.
    """
    names = weight_layers(bundle)
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    saliency = _saliencies(bundle, data.train, samples, seed)
    orders = {SALIENCY: saliency, MAGNITUDE: {label: scores.magnitude(w) for label, w in values.items()}}
    chosen = {order: _chosen(values, rated, sparsity, allocation) for order, rated in orders.items()}
    kept = chosen[SALIENCY]
    layers = pd.DataFrame(
        [
            {
                "layer": label,
                **masks.summary(w, kept[label]),
                "predicted": _sum_without(saliency[label], kept[label]),
            }
            for label, w in values.items()
        ],
        columns=LAYER_COLUMNS,
    )
    nets = {order: _without(bundle, each) for order, each in chosen.items()}
    judged = _judged(bundle, data.train, samples, seed)
    real = {order: judged.rise(net) for order, net in nets.items()}
    singles = _singles(bundle, data.train, samples, seed)
    groups = _groups(bundle, data.train, samples, seed, allocation)
    predicted = pd.concat([part for part in (singles, groups) if len(part)], ignore_index=True)
    figures = (
        *reports.removed(layers),
        *_losses(layers, real, len(judged)),
        *_correlations(singles, len(judged)),
    )
    notes = (*_notes(bundle, singles, real, len(judged)), *reports.emptied(layers))
    return nets[SALIENCY], Report(figures, {"layers": layers, "predicted": predicted}, notes)


def _saliencies(bundle: Bundle, train: Samples, samples: int, seed: int) -> dict[str, Tensor]:
    """Layer -> saliency of each weight, in its shape."""
    known = curvature.diagonal_of(bundle, train, samples, seed)
    return {
        label: scores.brain_damage(bundle.params[name].decode(), known[name])
        for label, name in weight_layers(bundle).items()
    }


def _chosen(
    values: Mapping[str, Tensor], rated: Mapping[str, Tensor], sparsity: float, allocation: str
) -> dict[str, Tensor]:
    """Layer -> mask, by the order that the scores give."""
    weights, worth = list(values.values()), [rated[label] for label in values]
    return dict(zip(values, masks.by_allocation(weights, worth, sparsity, allocation), strict=True))


def _sum_without(parts: Tensor, kept: Tensor) -> float:
    return float(parts.double()[~kept].sum())


# ---------------------------------------------------------------- what the loss really does


@dataclass(frozen=True, eq=False)
class _Judged:
    """Samples, the whole net's run over them, and its mean cross-entropy there in nat."""

    samples: Samples
    run: incremental.Trace
    loss: float

    def rise(self, bundle: Bundle) -> float:
        """How much more the loss of a changed net is, worked out anew only behind what changed."""
        answers, _ = incremental.logits(bundle, self.samples, self.run, keep=False)
        return _loss(answers, self.samples.labels) - self.loss

    def __len__(self) -> int:
        return len(self.samples)


@remembered  # a run holds up to 100 MB
def _judged(bundle: Bundle, train: Samples, samples: int, seed: int) -> _Judged:
    chosen = train.stratified(samples, seed)
    answers, run = incremental.logits(bundle, chosen)
    return _Judged(chosen, run, _loss(answers, chosen.labels))


def _loss(answers: Tensor, labels: Tensor) -> float:
    # float64: a single weight of many changes the mean in its last digits
    return float(F.cross_entropy(answers.double(), labels))


def _without(bundle: Bundle, kept: Mapping[str, Tensor]) -> Bundle:
    """The bundle with zeros where the mask of a layer is False."""
    names = weight_layers(bundle)
    changed = {names[x]: masks.remove(bundle.params[names[x]], mask) for x, mask in kept.items()}
    return bundle.become({**bundle.params, **changed})


@remembered  # they do not hang on the sparsity, which is what moves
def _singles(bundle: Bundle, train: Samples, samples: int, seed: int) -> pd.DataFrame:
    """Weights picked by chance, each taken out by itself: a row of the table `predicted` for each."""
    names, weights = weight_layers(bundle), dict(count.weights(bundle))
    judged = _judged(bundle, train, samples, seed)
    saliency = _saliencies(bundle, train, samples, seed)
    slope = curvature.gradient_of(bundle, train, samples, seed)
    many = min(MOST, max(LEAST, int(EFFORT / (kinds.work(bundle) * len(judged)))))
    rows = []
    for label, place in _picked(weights, many, seed):
        weight, kept = (
            float(weights[label].view(-1)[place]),
            torch.ones_like(weights[label], dtype=torch.bool),
        )
        kept.view(-1)[place] = False
        rows.append(
            {
                "removed": ONE,
                "layer": label,
                "weights": 1,
                "magnitude": abs(weight),
                "predicted": float(saliency[label].view(-1)[place]),
                "slope": -weight * float(slope[names[label]].view(-1)[place]),
                "measured": judged.rise(_without(bundle, {label: kept})),
            }
        )
    return _with_both(pd.DataFrame(rows, columns=SINGLE_COLUMNS))


def _picked(weights: Mapping[str, Tensor], many: int, seed: int) -> list[tuple[str, int]]:
    """At most so many (layer, place in its flat weight), by chance among all weights that are not zero."""
    ends = torch.tensor([w.numel() for w in weights.values()]).cumsum(0)
    alive = torch.cat([w.flatten() != 0 for w in weights.values()]).nonzero().flatten()
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))[:many]
    labels, found = list(weights), []
    for place in alive[order].tolist():
        at = int((ends <= place).sum())
        found.append((labels[at], place - (int(ends[at - 1]) if at else 0)))
    return found


@remembered
def _groups(bundle: Bundle, train: Samples, samples: int, seed: int, allocation: str) -> pd.DataFrame:
    """Growing groups of weights, in order of saliency and of magnitude: rows of the table `predicted`."""
    names = weight_layers(bundle)
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    judged = _judged(bundle, train, samples, seed)
    saliency = _saliencies(bundle, train, samples, seed)
    slope = curvature.gradient_of(bundle, train, samples, seed)
    rows = []
    for order, rated in (
        (SALIENCY, saliency),
        (MAGNITUDE, {label: scores.magnitude(w) for label, w in values.items()}),
    ):
        for share in SHARES:
            kept = _chosen(values, rated, share, allocation)
            rows.append(
                {
                    "removed": order,
                    "layer": "",
                    "weights": sum(int((~mask).sum()) for mask in kept.values()),
                    "predicted": sum(_sum_without(saliency[x], mask) for x, mask in kept.items()),
                    "slope": -sum(
                        _sum_without(slope[names[x]] * values[x], mask) for x, mask in kept.items()
                    ),
                    "measured": judged.rise(_without(bundle, kept)),
                }
            )
    return _with_both(pd.DataFrame(rows))


def _with_both(rows: pd.DataFrame) -> pd.DataFrame:
    """The prediction by curvature and slope together: h w^2 / 2 - g w."""
    return rows.assign(both=rows["predicted"] + rows["slope"])


# ---------------------------------------------------------------- the report


def _losses(layers: pd.DataFrame, real: Mapping[str, float], n: int) -> tuple[Figure, ...]:
    how = f"mean cross-entropy with these zeros minus without, on {n:,} training samples"
    return (
        Figure(
            "predicted rise of the loss",
            float(layers["predicted"].sum()),
            "nat",
            Basis.MODELLED,
            f"sum of h w^2 / 2 over the weights removed; h exact on {n:,} training samples",
        ),
        Figure("rise of the loss", real[SALIENCY], "nat", Basis.MEASURED, how),
        Figure(
            "rise of the loss by magnitude",
            real[MAGNITUDE],
            "nat",
            Basis.MEASURED,
            f"as many weights removed by the same allocation, the smallest first; {how}",
        ),
    )


def _correlations(singles: pd.DataFrame, n: int) -> tuple[Figure, ...]:
    """How well single weights are ranked; nothing where that is not defined, since all are equal."""
    against = singles[["measured", "predicted", "magnitude", "both"]].corr(method="spearman")["measured"]
    how = (
        f"Spearman, against the true rise of the loss without each of {len(singles)} weights "
        f"picked by chance, on the same {n:,} training samples; 95 % interval by Fisher's z"
    )
    told = {
        "predicted": ("rank correlation of saliency", "h w^2 / 2"),
        "magnitude": ("rank correlation of magnitude", "|w|"),
        "both": ("rank correlation with the slope", "h w^2 / 2 - g w, g the gradient"),
    }
    return tuple(
        _correlation(name, float(against[column]), len(singles), f"{of}; {how}")
        for column, (name, of) in told.items()
        if pd.notna(against[column])
    )


def _correlation(name: str, value: float, n: int, how: str) -> Figure:
    """With the interval of Fisher's z for ranks: standard error sqrt(1.06 / (n - 3)) (Fieller 1957)."""
    spread = None
    if n > 3:
        half = 1.96 * math.sqrt(1.06 / (n - 3))
        z = math.atanh(max(min(value, 1 - 1e-12), 1e-12 - 1))
        spread = (math.tanh(z - half), math.tanh(z + half))
    return Figure(name, value, "1", Basis.MEASURED, how, spread)


def _notes(bundle: Bundle, singles: pd.DataFrame, real: Mapping[str, float], n: int) -> tuple[str, ...]:
    notes = [
        f"Curvature and losses are those of {n:,} training samples. The prediction adds weights up as if "
        "none acted on another: the more go together, the further it is off. Nothing is trained here; LeCun "
        "removes a little, trains, and takes the curvature anew."
    ]
    bend, slope = singles["predicted"].median(), singles["slope"].abs().median()
    if slope > bend:
        times = f"{slope / bend:,.0f} times" if bend > 0 else "larger than"
        notes.append(
            f"The loss is not at a minimum in single weights: the slope term |g w| is {times} the curvature "
            "term (medians). Saliency leaves the slope out, so it does not predict what one weight does."
        )
    if real[SALIENCY] > real[MAGNITUDE]:
        notes.append("Here as many weights removed by magnitude raise the loss less than these.")
    if any(isinstance(module, nn.RNNBase) for module in zoo.skeleton(bundle.arch).modules()):
        notes.append("In recurrent layers the Gauss-Newton diagonal is not that of the second derivatives.")
    return tuple(notes)
