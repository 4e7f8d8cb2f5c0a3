"""Condense: each group of filters learns, while the net trains, which few input channels it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.figures import reports, training
from engine.net import kinds, zoo
from engine.net.train import Plan, zero_masks
from engine.recipe import settings
from engine.recipe.knobs import Slider
from engine.recipe.technique import Cost, technique
from engine.tensor import groups as learned
from engine.tensor.formats import Dense
from engine.types import Bundle, Progress, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = ("layer", "weights", "weights_after", "groups", "inputs", "read", "macs_before", "macs_after")
READ_COLUMNS = ("layer", "group", "channel", "size", "kept")
Reads = Mapping[str, list[list[int]]]  # layer -> the input channels of each group, in order


@technique(
    family="prune",
    title="Condense",
    reference="Huang et al. 2018, CondenseNet: An Efficient DenseNet using Learned Group Convolutions, "
    "arXiv 1711.09224",
    page="channels",
    stage=320,
    runs="trains",
    cost=lambda chosen: Cost(chosen["epochs"]),
    locality="model",
    tables={
        "curve": ("epoch", "loss", "train accuracy", "validation accuracy"),
        "reads": READ_COLUMNS,
        "layers": LAYER_COLUMNS,
    },
    presets={
        "gentle": {"groups": 2, "factor": 2},
        "balanced": {"groups": 4, "factor": 4},
        "extreme": {"groups": 8, "factor": 8, "epochs": 12},
    },
    possible=lambda bundle: fitting(bundle, 2, 2),
)
def condense(
    bundle: Bundle,
    data: Data,
    *,
    groups: Annotated[
        int,
        Slider(
            low=2,
            high=16,
            whole=True,
            unit="groups of filters",
            label="Groups",
            help="Into how many groups a layer's filters are dealt out; each reads its own channels.",
        ),
    ] = 4,
    factor: Annotated[
        int,
        Slider(
            low=2,
            high=16,
            whole=True,
            unit="times fewer inputs",
            label="Condensation",
            help="Each group keeps one in so many of the channels that enter the layer.",
        ),
    ] = 4,
    epochs: Annotated[
        int,
        settings.epochs(
            "How often the model sees all training samples: channels are dropped in the first half.", high=60
        ),
    ] = 6,
    learning_rate: Annotated[
        float, settings.learning_rate("Where the training begins; it falls to zero along a cosine.")
    ] = 0.02,
    weight_decay: settings.WeightDecay = 1e-4,
    leave_out: Annotated[
        Sequence[str], settings.leave_out("Convolutions that go on reading all their channels.")
    ] = (),
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Trains until each group of filters reads only a few channels of its own choice, then cuts the rest out.

    In factor - 1 stages over the first half of the training, each group drops the channels on which the
    sum of its weights' sizes is least. What is left becomes a gather, a convolution in groups and a
    shuffle, with the same answers. Filters are dealt out in turns: filter i is in group i mod groups.
    Convolutions whose channels are no multiple of factor, or whose filters are none of groups, stay
    whole. Stochastic gradient descent with Nesterov momentum 0.9, batch 128. The result is
    32-bit floats. Raises SlimscopeError where no layer fits, and Cancelled through `progress`.
    """
    net = zoo.fork(bundle)
    labels, unfit = fitting(bundle, groups, factor, leave_out)
    plan = Plan(epochs, learning_rate, schedule="cosine", weight_decay=weight_decay, seed=seed)
    steps = epochs * math.ceil(len(data.train) / plan.batch)
    stages = learned.stages(steps, factor)

    def prune(net: nn.Module, batches: int) -> dict[str, Tensor] | None:
        if batches not in stages:
            return None
        share = stages[batches] / factor
        kept = zero_masks(net)
        for name in (f"{label}.weight" for label in labels):
            weight = net.get_parameter(name).detach()
            kept[name] = (learned.mask(weight, groups, share) & (weight != 0)).to(weight.dtype)
        return kept

    rows = training.tune(net, data, plan, progress, prune=prune)
    masked = training.trained(bundle, net)
    reads = {
        label: learned.read_by(masked.params[f"{label}.weight"].decode(), groups, factor) for label in labels
    }
    after = converted(masked, reads)
    tables = {
        "curve": training.curve(rows),
        "reads": _reads_table(masked, reads),
        "layers": _layers(bundle, after, reads),
    }
    figures = (*training.change(bundle, after, data.validation), *reports.costs(bundle, after))
    return after, Report(figures, tables, _notes(bundle, data, unfit, leave_out))


# ---------------------------------------------------------------- which channels a group reads


def fitting(
    bundle: Bundle, groups: int, factor: int, leave_out: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Convolutions that can be condensed, and why the others can't. Raises SlimscopeError where none can."""
    modules = dict(zoo.skeleton(bundle.arch).named_modules())
    fit_, unfit = [], {}
    for label in weight_layers(bundle):
        layer = modules.get(label)
        if not isinstance(layer, nn.Conv2d) or label in leave_out:
            continue
        if f"{label}.weight" in bundle.arch.ties.values():
            unfit[label] = "another layer shares its numbers"
        elif layer.groups != 1:
            unfit[label] = "it is in groups already"
        elif layer.in_channels % factor:
            unfit[label] = f"its {layer.in_channels} inputs are no multiple of {factor}"
        elif layer.out_channels % groups:
            unfit[label] = f"its {layer.out_channels} filters are no multiple of {groups}"
        else:
            fit_.append(label)
    if not fit_:
        if not unfit:
            raise SlimscopeError(f"{bundle.arch.title} has no convolution to condense")
        why = "; ".join(f"{label}: {reason}" for label, reason in unfit.items())
        raise SlimscopeError(
            f"no convolution of {bundle.arch.title} can be condensed with groups = {groups} and factor = "
            f"{factor} ({why})"
        )
    return fit_, unfit


# ---------------------------------------------------------------- gather, convolve in groups, shuffle


def converted(bundle: Bundle, reads: Reads) -> Bundle:
    """The net in which each group of a layer's filters has only the weights on the channels that it reads.

    It answers as the bundle does where all other weights are zero. Filters are sorted by group, so
    biases are, too.
    """
    params, arch = dict(bundle.params), bundle.arch
    for label, groups in reads.items():
        weight = params[f"{label}.weight"].decode()
        own = [weight[number :: len(groups), channels] for number, channels in enumerate(groups)]
        params[f"{label}.weight"] = Dense(torch.cat(own).contiguous())
        if f"{label}.bias" in params:
            bias = params[f"{label}.bias"].decode()
            params[f"{label}.bias"] = Dense(torch.cat([bias[n :: len(groups)] for n in range(len(groups))]))
        arch = arch.edit("condense", layer=label, reads=groups)
    return bundle.become(params, arch)


# ---------------------------------------------------------------- the report


def _reads_table(masked: Bundle, reads: Reads) -> pd.DataFrame:
    """One row for each layer, group and channel: the sum of the group's weights' sizes, and if it is read."""
    rows: list[tuple[Any, ...]] = []
    for label, groups in reads.items():
        worth = learned.worth(masked.params[f"{label}.weight"].decode(), len(groups)).tolist()
        for group, (sizes, channels) in enumerate(zip(worth, groups, strict=True)):
            rows += [(label, group, c, size, c in set(channels)) for c, size in enumerate(sizes)]
    return pd.DataFrame(rows, columns=READ_COLUMNS)


def _layers(before: Bundle, after: Bundle, reads: Reads) -> pd.DataFrame:
    """Every layer, so that columns add up to the net's."""
    macs = [kinds.macs_by_layer(bundle) for bundle in (before, after)]
    rows: list[tuple[Any, ...]] = []
    for label, name in weight_layers(before).items():
        shape, left = (torch.Size(bundle.params[name].shape) for bundle in (before, after))
        wiring = (len(reads[label]), shape[1], left[1]) if label in reads else (1, shape[1], shape[1])
        rows.append((label, shape.numel(), left.numel(), *wiring, *(table[label] for table in macs)))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _notes(bundle: Bundle, data: Data, unfit: Mapping[str, str], leave_out: Sequence[str]) -> tuple[str, ...]:
    return (
        reports.trained_on(data),
        *reports.reasons("Left whole:", unfit),
        *reports.named("Left out:", leave_out),
        "Channels that no group reads are still made: steps that take channels out can't follow a gather.",
        *reports.decoded(bundle),
    )
