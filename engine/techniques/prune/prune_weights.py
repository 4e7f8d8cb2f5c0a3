"""Prune weights: set the weights that matter least to exactly zero: score x granularity x allocation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from engine.data.sets import Data
from engine.figures import reports
from engine.net import worth
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import Ranked, technique
from engine.tensor import masks, ranking
from engine.types import Bundle, Report, weight_layers

BY_SHARE = (("by", ("sparsity",)), ("granularity", masks.UNITS))  # of N:M, N and M are the share
SPARSITY = settings.sparsity(
    "How many of the weights become zero: 0.9 removes nine out of ten, the smallest first.", when=BY_SHARE
)


@technique(
    family="prune",
    title="Prune weights",
    reference="Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626",
    page="prune",
    stage=510,
    runs="instant",
    locality="ranked",
    ranked=Ranked(ranking.as_threshold, ranking.removals),
    tables={"layers": (*reports.LAYER_COLUMNS, "within")},
    presets={"gentle": {"sparsity": 0.5}, "balanced": {"sparsity": 0.9}, "extreme": {"sparsity": 0.98}},
)
def prune_weights(
    bundle: Bundle,
    data: Data | None,
    *,
    by: Annotated[
        str,
        Choice(
            label="Remove by",
            help="What decides whether a weight is small enough to go.",
            options={
                "sparsity": "a share of the weights, the smallest first",
                "threshold": "every weight whose size is at most a value",
                "quality": "Han's rule: a multiple of the layer's standard deviation",
            },
        ),
    ] = "sparsity",
    sparsity: Annotated[float, SPARSITY] = 0.9,
    allocation: Annotated[
        str,
        settings.allocation(
            "weights",
            "every layer loses the same share",
            "one ranking over all layers: layers of small weights lose more",
            erk=True,
            row=True,
            when=BY_SHARE,
        ),
    ] = "global",
    score: Annotated[
        str,
        Choice(
            label="Score",
            help="What a weight is worth; the lowest go first.",
            options={
                "magnitude": "its size (Han 2015)",
                "random": "chance: the control that every score must beat",
                "taylor": "gradient times weight: the change of the loss to first order (Molchanov 2017)",
                "obd": "curvature times squared weight: the same to second order (LeCun 1989)",
                "wanda": "its size times the norm of what it is multiplied with (Sun 2023)",
                "batch-norm": "the scale of the batch-norm behind its filter (Liu 2017)",
            },
            when=(("by", ("sparsity",)),),
        ),
    ] = "magnitude",
    granularity: Annotated[
        str,
        Choice(
            label="Granularity",
            help="What goes as one piece.",
            options={
                "element": "single weights",
                "n:m": "all but N of each M weights in a row of inputs, as sparse tensor cores want them",
                "block": "square blocks of the matrix (outputs, all the rest)",
                "kernel": "what connects one input channel to one output channel of a convolution",
                "filter": "all that makes one output: a row",
                "channel": "all that reads one input: a column",
            },
            when=(("by", ("sparsity",)),),
        ),
    ] = "element",
    n: Annotated[
        int,
        settings.kept_in_row((("by", ("sparsity",)), ("granularity", ("n:m",)))),
    ] = 2,
    m: Annotated[
        int,
        settings.row((("by", ("sparsity",)), ("granularity", ("n:m",)))),
    ] = 4,
    block: Annotated[
        int,
        Slider(
            low=2,
            high=64,
            whole=True,
            unit="weights",
            label="Block side",
            help="The side of a block; those at the edge of a matrix may be smaller.",
            when=(("by", ("sparsity",)), ("granularity", ("block",))),
        ),
    ] = 4,
    norm: Annotated[
        str,
        Choice(
            label="Score of a piece",
            help="How its weights' scores become one, per weight, so that pieces of any size compare.",
            options={
                "l1": "their mean: the L1 norm over the number of weights",
                "l2": "the root of their mean square: the L2 norm over the root of that number",
            },
            when=(("by", ("sparsity",)), ("granularity", masks.UNITS[1:])),
        ),
    ] = "l1",
    samples: Annotated[
        int,
        settings.samples(
            "On how many training samples gradient, curvature or norms are taken.",
            when=(("by", ("sparsity",)), ("score", ("taylor", "obd", "wanda"))),
        ),
    ] = 200,
    threshold: Annotated[
        float,
        Slider(
            low=1e-5,
            high=1.0,
            scale="log",
            unit="absolute weight",
            label="Threshold",
            help="Weights of this size or smaller become zero.",
            when=(("by", ("threshold",)),),
        ),
    ] = 0.02,
    quality: Annotated[
        float,
        Slider(
            low=0.0,
            high=4.0,
            step=0.05,
            unit="standard deviations",
            label="Quality",
            help="The threshold of each layer in units of the standard deviation of its weights.",
            when=(("by", ("quality",)),),
        ),
    ] = 1.0,
    per_layer: Annotated[
        Mapping[str, float],
        settings.per_layer(
            SPARSITY,
            "Own sparsity",
            "Layers with a sparsity of their own; they take no part in the ranking of the others.",
            when=BY_SHARE,
        ),
    ] = settings.NONE,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    seed: Annotated[
        int,
        settings.seed(
            "Fixes what chance picks: the weights, or the training samples.",
            when=(("by", ("sparsity",)), ("score", ("random", "taylor", "obd", "wanda"))),
        ),
    ] = 0,
) -> tuple[Bundle, Report]:
    """Set the weights that matter least, by default those of smallest magnitude, to exactly zero.

    Biases and normalisation stay. Weights that are zero already count as removed and are never
    revived. Quantized and shared weights keep their codes and scales. Nothing is trained: a
    fine-tuning step usually wins back most of the accuracy. Score, granularity and allocation combine freely;
    layers that a score or granularity does not fit are left as they are. Raises SlimscopeError where
    `taylor`, `obd`, `wanda` or `batch-norm` would need a model that is not known.
    """
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    unfit: dict[str, str] = {}
    match by:
        case "threshold":
            kept = {label: masks.by_threshold(w, threshold) for label, w in values.items()}
        case "quality":
            kept = {label: masks.by_quality(w, quality) for label, w in values.items()}
        case _:
            unfit = worth.unfit(bundle, values, score, granularity, m)
            fit = {label: w for label, w in values.items() if label not in unfit}
            rated = worth.scores_of(bundle, data, fit, score, samples, seed)
            if granularity == "n:m":
                kept = {label: masks.by_pattern(w, rated.get(label), n, m) for label, w in fit.items()}
            else:
                ranked = partial(masks.by_allocation, granularity=granularity, block=block, norm=norm)
                kept = masks.with_own_shares(fit, rated, sparsity, allocation, per_layer, ranked)
    changed = {names[label]: bundle.params[names[label]].masked(mask) for label, mask in kept.items()}
    table = reports.layer_table(values, kept)
    after = bundle.become({**bundle.params, **changed})
    left = "Left as they are:" if len(table) else "Nothing is removed:"
    notes = [*reports.emptied(table), *reports.named("Left out:", leave_out), *reports.reasons(left, unfit)]
    if by == "sparsity":
        seen = 0 if data is None else min(samples, len(data.train))
        notes += [*_notes_on_score(score, granularity, seen), *_notes_on_granularity(bundle, granularity)]
    return after, Report(reports.removed(table), {"layers": table}, tuple(notes))


# ---------------------------------------------------------------- the report


def _notes_on_score(score: str, granularity: str, samples: int) -> list[str]:
    match score:
        case "random":
            return ["Chance is the control: a score that does no better knows nothing of the model."]
        case "taylor":
            return [f"The gradient is that of the cross-entropy on {samples:,} training samples."]
        case "obd":
            return [
                f"The curvature is that of the cross-entropy on {samples:,} training samples. The score "
                "takes the model to be at a minimum; Optimal brain damage measures how far that holds."
            ]
        case "wanda":
            return [
                f"Norms are those of what enters each layer, on {samples:,} training samples. They differ "
                "from layer to layer, so choose allocation row, as in the paper, or layer."
            ]
        case "batch-norm" if granularity != "filter":
            return ["All weights of a filter share one batch-norm scale: of equals the first go."]
    return []


def _notes_on_granularity(bundle: Bundle, granularity: str) -> list[str]:
    if granularity == "element":
        return []
    if granularity in ("block", "kernel", "n:m"):
        return [
            "Zeros in this pattern save bytes, but no time here: dense code multiplies them like any number."
        ]
    notes = [
        f"Whole {granularity}s are zero, but every matrix has its old size: the file shrinks, the "
        "multiply-adds stay. Prune filters takes filters out of the model."
    ]
    if granularity == "filter":
        notes.append("A filter of zeros still hands on its bias and the shift of its batch-norm.")
        if bundle.arch.runs:
            last = list(weight_layers(bundle))[-1]
            notes.append(f"The rows of {last} are the model's answers: leave it out to keep each of them.")
    return notes
