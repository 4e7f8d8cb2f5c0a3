"""Optimal brain damage: remove the weights without which the loss should grow least, and look if it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data, Samples
from engine.figures import count, measure, reports
from engine.memory import remembered
from engine.net import curvature, harm, kinds, sources, zoo
from engine.recipe import settings
from engine.recipe.technique import technique
from engine.tensor import masks, scores
from engine.types import Basis, Bundle, Figure, Report, weight_layers

MOST, LEAST = 200, 24  # single weights that are taken out by turns
EFFORT = 6e10  # units of work (`kinds.work`) that may go into them
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # of the weights, removed together
ONE, SALIENCY, MAGNITUDE = "one weight", "lowest saliency", "smallest magnitude"
SINGLE_COLUMNS = ("removed", "layer", "weights", "magnitude", "predicted", "slope", "measured")


@technique(
    family="prune",
    title="Optimal brain damage",
    reference="LeCun, Denker, Solla 1989, Optimal Brain Damage, NIPS 2",
    page="damage",
    stage=500,
    runs="seconds",
    locality="model",
    tables={"layers": (*reports.LAYER_COLUMNS, "predicted"), "predicted": (*SINGLE_COLUMNS, "both")},
    presets={"gentle": {"sparsity": 0.3}, "balanced": {"sparsity": 0.6}, "extreme": {"sparsity": 0.9}},
    needs_model=True,
    possible=sources.need_classes,
)
def optimal_brain_damage(
    bundle: Bundle,
    data: Data,
    *,
    sparsity: Annotated[
        float, settings.sparsity("How many of the weights become zero, those of lowest saliency first.")
    ] = 0.6,
    allocation: Annotated[
        str,
        settings.allocation(
            "weights",
            "every layer loses the same share",
            "one ranking over all layers: saliencies are changes of one and the same loss",
            erk=True,
        ),
    ] = "global",
    samples: Annotated[
        int, settings.samples("On how many training samples curvature and loss are taken.")
    ] = 200,
    seed: Annotated[
        int, settings.seed("Fixes the training samples, and the single weights that are taken out by turns.")
    ] = 0,
) -> tuple[Bundle, Report]:
    """Removes the weights of lowest saliency h w^2 / 2, the rise of the loss that curvature predicts.

    h is the exact diagonal of the Gauss-Newton matrix of the cross-entropy. The report sets predictions
    against the truth, on the same samples: for single weights, each taken out by itself, and for
    growing groups. Zeros stay; biases and normalisation are not touched. Nothing is trained.
    """
    sources.need_classes(bundle)
    names = weight_layers(bundle)
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    saliency = _saliencies(bundle, data.train, samples, seed)
    orders = {SALIENCY: saliency, MAGNITUDE: {label: scores.magnitude(w) for label, w in values.items()}}
    chosen = {order: _chosen(values, rated, sparsity, allocation) for order, rated in orders.items()}
    kept = chosen[SALIENCY]
    predicted = [_sum_without(saliency[label], mask) for label, mask in kept.items()]
    layers = reports.layer_table(values, kept).assign(predicted=predicted)
    nets = {order: harm.without(bundle, each) for order, each in chosen.items()}
    judged = harm.judged(bundle, data.train, samples, seed)
    real = {order: judged.rise(net) for order, net in nets.items()}
    singles = _singles(bundle, data.train, samples, seed)
    groups = _groups(bundle, data.train, samples, seed, allocation)
    table = pd.concat([part for part in (singles, groups) if len(part)], ignore_index=True)
    figures = (
        *reports.removed(layers),
        *_losses(layers, real, len(judged)),
        *_correlations(singles, len(judged)),
    )
    notes = (*_notes(bundle, singles, real, len(judged)), *reports.emptied(layers))
    return nets[SALIENCY], Report(figures, {"layers": layers, "predicted": table}, notes)


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


@remembered  # they do not hang on the sparsity, which is what moves
def _singles(bundle: Bundle, train: Samples, samples: int, seed: int) -> pd.DataFrame:
    """Weights picked by chance, each taken out by itself: a row of the table `predicted` for each."""
    names, weights = weight_layers(bundle), dict(count.weights(bundle))
    judged = harm.judged(bundle, train, samples, seed)
    saliency = _saliencies(bundle, train, samples, seed)
    slope = curvature.gradient_of(bundle, train, samples, seed)
    many = min(MOST, max(LEAST, int(EFFORT / (kinds.work(bundle) * len(judged)))))
    rows = []
    for label, place in harm.picked(weights, many, seed):
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
                "measured": judged.rise(harm.without(bundle, {label: kept})),
            }
        )
    return _with_both(pd.DataFrame(rows, columns=SINGLE_COLUMNS))


@remembered
def _groups(bundle: Bundle, train: Samples, samples: int, seed: int, allocation: str) -> pd.DataFrame:
    """Growing groups of weights, in order of saliency and of magnitude: rows of the table `predicted`."""
    names = weight_layers(bundle)
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    judged = harm.judged(bundle, train, samples, seed)
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
                    "measured": judged.rise(harm.without(bundle, kept)),
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
        measure.rank_correlation(name, float(against[column]), len(singles), f"{of}; {how}")
        for column, (name, of) in told.items()
        if pd.notna(against[column])
    )


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
