"""Prune filters: take whole filters and units out of the net, so that it becomes narrower for good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import count, reports
from engine.net import channels
from engine.net.channels import Group, Part
from engine.recipe import settings
from engine.recipe.knobs import Choice, Picks, SettingError, Toggle
from engine.recipe.technique import technique
from engine.types import Basis, Bundle, Figure, Report

REMOVED = settings.removed(
    "filters",
    "The share of the filters and units left that goes, the smallest first.",
)
FILTER_COLUMNS = ("layer", "filter", "score", "kept")


@technique(
    family="prune",
    title="Prune filters",
    reference="Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv 1608.08710",
    page="filters",
    stage=330,
    runs="instant",
    locality="model",
    tables={"layers": channels.LAYER_COLUMNS, "filters": FILTER_COLUMNS},
    presets={
        "gentle": {"removed": 0.1},
        "balanced": {"removed": 0.3},
        "extreme": {"removed": 0.6, "allocation": "global"},
    },
    needs_model=True,
)
def prune_filters(
    bundle: Bundle,
    data: Data,
    *,
    removed: Annotated[float, REMOVED] = 0.25,
    score: Annotated[
        str,
        Choice(
            label="Score",
            help="What makes a filter small; biases and batch-norm are not looked at.",
            options={
                "l1": "the sum of its weights' sizes (Li 2017)",
                "l2": "the root of the sum of its squared weights",
                "random": "chance: the control that every score must beat",
            },
        ),
    ] = "l1",
    allocation: Annotated[
        str,
        settings.allocation(
            "filters",
            "every layer loses the same share (Li 2017)",
            "one ranking of scores over their layer's mean: uneven layers lose more",
        ),
    ] = "layer",
    residual: Annotated[
        bool,
        Toggle(
            label="Residual channels",
            help="Also removes channels that shortcuts pass on: each goes from all layers that write to it.",
        ),
    ] = False,
    per_layer: Annotated[
        Mapping[str, float],
        settings.per_layer(
            REMOVED,
            "Own share",
            "Layers with a share of their own; they take no part in the ranking of the others.",
        ),
    ] = settings.NONE,
    by_hand: Annotated[
        Mapping[str, Sequence[int]],
        Picks(
            label="By hand",
            unit="filters",
            help="Single filters that go as well, whatever their score; a layer's filters count from 0.",
        ),
    ] = settings.NONE,
    leave_out: Annotated[
        Sequence[str],
        settings.leave_out("Layers that keep all their filters; what they read of others may still go."),
    ] = (),
    seed: Annotated[
        int, settings.seed("Fixes which filters chance picks.", when=(("score", ("random",)),))
    ] = 0,
) -> tuple[Bundle, Report]:
    """Removes the smallest filters and units for good: the model that is left is narrower.

    With a filter go its bias, its batch-norm entries and the slice of every layer that reads it.
    At least one filter of each layer stays, and all outputs of the last. Nothing is trained. A
    channel of a residual stream is made by several layers: its score is the mean of their filters',
    each over the mean of its layer. Raises SlimscopeError for recurrent models, and SettingError for
    an own share of a layer whose filters cannot go by themselves.
    """
    known = channels.groups(bundle)
    _check_own("per_layer", per_layer, known)
    _check_own("by_hand", by_hand, known)
    rng = torch.Generator().manual_seed(seed)
    scores = {name: _scores(bundle, group, score, rng) for name, group in known.items()}
    open_to = {
        name: scores[name]
        for name, group in known.items()
        if (residual or not group.stream) and not set(group.layers) & set(leave_out)
    }
    if allocation == "global":
        open_to = {name: _over_mean(values) for name, values in open_to.items()}
    gone = channels.smallest(open_to, removed, allocation, per_layer)
    for name, picked in by_hand.items():
        if picked and max(picked) >= known[name].channels:
            raise SettingError(
                f"by_hand[{name}] names filter {max(picked)}: allowed is 0 to {known[name].channels - 1}"
            )
        gone[name] = gone.get(name, set()) | set(picked)
        if len(gone[name]) == known[name].channels > len(set(picked)):  # one stays: the best of the others
            gone[name].remove(max(gone[name] - set(picked), key=scores[name].__getitem__))
    after = channels.keep(bundle, channels.kept_of(known, gone))
    layers = channels.layer_table(bundle, after)
    filters = _filters(known, scores, gone)
    figures = _figures(bundle, after, layers, gone)
    asked = None if per_layer or by_hand else removed
    notes = _notes(bundle, after, known, gone, layers, leave_out, asked)
    return after, Report(figures, {"layers": layers, "filters": filters}, notes)


def _check_own(setting: str, labels: Iterable[str], known: Mapping[str, Group]) -> None:
    """Raises SettingError for layers that are not what a group of channels is called by."""
    for label in labels:
        if label in known:
            continue
        leader = next((name for name, group in known.items() if label in group.layers), None)
        why = "its outputs are the model's" if leader is None else f"its filters go with those of {leader}"
        raise SettingError(
            f"{setting} names {label!r}, but {why}: "
            f"allowed are {', '.join(known) or 'no layers of this model'}"
        )


# ---------------------------------------------------------------- which filters go


def _scores(bundle: Bundle, group: Group, score: str, rng: torch.Generator) -> Tensor:
    """One score for each channel of the group (channels,), float64; larger is better."""
    if score == "random":
        return torch.rand(group.channels, generator=rng, dtype=torch.float64)
    order = 1 if score == "l1" else 2
    filters = [
        bundle.params[part.param].decode().double().movedim(part.axis, 0).flatten(1)[list(part.at)]
        for part in _filters_of(group)
    ]
    norms: list[Tensor] = [torch.linalg.vector_norm(rows, order, dim=1) for rows in filters]
    if len(norms) == 1:
        return norms[0]
    return torch.stack([_over_mean(norm) for norm in norms]).mean(0)


def _filters_of(group: Group) -> list[Part]:
    """Where each of the group's layers has its filters, in the order of `group.layers`."""
    weights = {f"{label}.weight" for label in group.layers}
    return [part for part in group.makes if part.param in weights]


def _over_mean(scores: Tensor) -> Tensor:
    """Scores over their mean, so that those of large and small layers compare; zeros stay zeros."""
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


# ---------------------------------------------------------------- what the report says


def _filters(
    known: Mapping[str, Group], scores: Mapping[str, Tensor], gone: Mapping[str, set[int]]
) -> pd.DataFrame:
    """One row per filter of each layer but the last; those that go together have one score."""
    rows = [
        (label, place, value, channel not in gone.get(name, ()))
        for name, group in known.items()
        for label, part in zip(group.layers, _filters_of(group), strict=True)
        for channel, (place, value) in enumerate(zip(part.at, scores[name].tolist(), strict=True))
    ]
    return pd.DataFrame(rows, columns=FILTER_COLUMNS)


def _figures(
    before: Bundle, after: Bundle, layers: pd.DataFrame, gone: Mapping[str, set[int]]
) -> tuple[Figure, ...]:
    distinct = sum(map(len, gone.values()))
    return (
        Figure(
            "filters removed",
            int(layers["removed"].sum()),
            "filters",
            Basis.COUNTED,
            f"filters and units of all layers before minus after; they make {distinct} different channels",
        ),
        replace(count.macs(before), name="multiply-adds before"),
        replace(count.macs(after), name="multiply-adds after"),
        count.parameters(after),
    )


def _notes(
    before: Bundle,
    after: Bundle,
    known: Mapping[str, Group],
    gone: Mapping[str, set[int]],
    layers: pd.DataFrame,
    leave_out: Sequence[str],
    asked: float | None,
) -> tuple[str, ...]:
    able = layers["layer"].isin({label for name in gone for label in known[name].layers})
    notes = [_shares(before, after, layers, layers[able]), *_rounded(layers[able], asked)]
    removed = [known[name] for name, channels in gone.items() if channels]
    plain = [f"of {group.name}, that of {_readers(group)}" for group in removed if not group.stream]
    if plain:
        more = f"; and so on in {len(plain) - 3} more layers" if len(plain) > 3 else ""
        notes.append(
            "Removing a filter also removes the matching input slice of what reads it: "
            f"{'; '.join(plain[:3])}{more}."
        )
    if removed:
        notes.append(
            "Its bias and batch-norm entries go, too: a filter of zero weights would still add a constant."
        )
    notes += [
        f"One stream passes {_some(group.layers)}: a channel of it goes from all of them."
        for group in removed
        if group.stream
    ]
    closed = [name for name, group in known.items() if group.stream and name not in gone]
    if closed:
        notes.append(
            f"Filters that add to the same residual stream as those of {_some(closed)} stay: "
            "one could only go from all layers of its stream."
        )
    single = layers.loc[(layers["kept"] == 1) & (layers["removed"] > 0), "layer"].tolist()
    cut = ": the cut runs through weights that shared a scale or a code. Quantize after this step."
    return (
        *notes,
        *reports.named("Only one filter is left in", single, ": all that follows depends on it."),
        *reports.floats_again(channels.turned_dense(before, after), cut),
        *reports.named("Left out:", leave_out, "; what they read of other layers may have gone."),
    )


def _shares(before: Bundle, after: Bundle, layers: pd.DataFrame, able: pd.DataFrame) -> str:
    """`able` are the rows of layers whose filters can go: not the net's answers, nor what shortcuts keep."""
    filters = able["removed"].sum() / max(able["filters"].sum(), 1)
    numbers = 1 - count.parameters(after).value / count.parameters(before).value
    macs = 1 - layers["macs_after"].sum() / layers["macs_before"].sum()
    return (
        f"{filters:.1%} of the filters that can go were {numbers:.1%} of the parameters and {macs:.1%} of "
        "the multiply-adds: a layer loses what it makes and what it reads."
    )


def _rounded(able: pd.DataFrame, asked: float | None) -> list[str]:
    """The share asked for (None: layers have their own) beside the one that went, where they differ."""
    removed = able["removed"].sum() / max(able["filters"].sum(), 1)
    if asked is None or f"{asked:.1%}" == f"{removed:.1%}":
        return []
    return [
        f"Asked for were {asked:.1%} of the filters, and {removed:.1%} went: filters go whole, and each "
        "layer keeps at least one."
    ]


def _readers(group: Group) -> str:
    """Who reads the group: `conv2`, or `fc1 (16 columns)` where a channel is an image laid flat."""
    return " and ".join(
        part.param.removesuffix(".weight") + (f" ({part.block} columns)" if part.block > 1 else "")
        for part in group.reads
    )


def _some(labels: Sequence[str]) -> str:
    """At most three names, and how many more there are."""
    if len(labels) <= 3:
        return ", ".join(labels)
    return f"{', '.join(labels[:2])} and {len(labels) - 2} more layers"
