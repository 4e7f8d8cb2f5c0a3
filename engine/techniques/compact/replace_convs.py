"""Replace convolutions: a cheaper design takes each one's place, fitted layer by layer, then distilled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.figures import measure, reports, training
from engine.net import averages, kinds, zoo
from engine.net.replacing import fitting, replaced
from engine.net.train import Plan, learning_from, zero_masks
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import Cost, technique
from engine.tensor.compact import Design
from engine.types import Basis, Bundle, Figure, Progress, Report, weight_layers

FITTING = 0.3  # of the progress, where a training follows
LAYER_COLUMNS = (
    "layer",
    "replaced",
    "why",
    "weights_before",
    "weights_after",
    "macs_before",
    "macs_after",
    "error_at_start",
    "error_fitted",
)


@technique(
    family="compact",
    title="Replace convolutions",
    reference="Howard et al. 2017, MobileNets, arXiv 1704.04861; Zhang et al. 2018, ShuffleNet, arXiv "
    "1707.01083; Guo et al. 2018, Network Decoupling, arXiv 1808.05517",
    page="compact",
    stage=210,
    runs="trains",
    cost=lambda chosen: Cost(chosen["epochs"] + 1),  # the fit of the layers sees images, too
    locality="model",
    tables={
        "curve": ("epoch", "loss", "train accuracy", "validation accuracy"),
        "layers": LAYER_COLUMNS,
    },
    presets={
        "gentle": {"design": "grouped", "groups": 2},
        "balanced": {"design": "separable"},
        "extreme": {"design": "shuffled", "groups": 4, "epochs": 8},
    },
    known_by="design",
    possible=lambda bundle: fitting(bundle, Design("separable")),
    aha="A convolution looks at places and mixes channels in one go. Done one after the other, both cost a "
    "fraction: 1/N + 1/k² of it for N outputs and kernels of k x k.",
    trap="Fewer multiply-adds are not as much less time: a depthwise filter multiplies only k² times for "
    "each number that it reads, so that moving numbers takes the time. Measure the layer.",
)
def replace_convs(
    bundle: Bundle,
    data: Data,
    *,
    design: Annotated[
        str,
        Choice(
            label="Design",
            help="What takes the place of a convolution.",
            options={
                "separable": "one filter for each channel, then a 1x1 convolution (MobileNet)",
                "grouped": "groups that read their own channels alone",
                "shuffled": "groups, a shuffle, and a 1x1 convolution in groups (ShuffleNet)",
                "inverted": "1x1 to more channels, one filter for each, and 1x1 back (MobileNetV2)",
            },
        ),
    ] = "separable",
    groups: Annotated[
        int,
        Slider(
            low=2,
            high=16,
            whole=True,
            unit="groups of channels",
            label="Groups",
            help="Into how many groups inputs and outputs are dealt out; layers that they don't divide stay.",
            when=(("design", ("grouped", "shuffled")),),
        ),
    ] = 4,
    expansion: Annotated[
        int,
        Slider(
            low=1,
            high=6,
            whole=True,
            unit="times as many channels",
            label="Expansion",
            help="How many times as many channels lie in the middle; layers that it makes larger stay.",
            when=(("design", ("inverted",)),),
        ),
    ] = 2,
    epochs: Annotated[
        int,
        Slider(
            low=0,
            high=30,
            whole=True,
            unit="epochs",
            label="Epochs",
            help="How often the whole model then sees all training samples, taught by the model before.",
        ),
    ] = 4,
    rounds: Annotated[
        int,
        Slider(
            low=0,
            high=20,
            whole=True,
            unit="rounds",
            label="Fitting rounds",
            help="How often each part of a new layer is fitted to what the old one gives; 0: not at all.",
        ),
    ] = 5,
    samples: Annotated[
        int, settings.advanced(settings.samples("How many training samples the new layers are fitted on."))
    ] = 300,
    learning_rate: Annotated[float, settings.advanced(settings.adam_rate())] = 0.003,
    temperature: settings.AdvancedTemperature = 4.0,
    alpha: settings.AdvancedTeacherShare = 0.7,
    leave_out: Annotated[Sequence[str], settings.leave_out("Convolutions that stay as they are.")] = (),
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Replaces convolutions by a cheaper design: fitted layer by layer, then trained as a whole.

    A new layer begins with the terms of the old kernel's singular value decomposition that it can hold. Then
    its parts are fitted in turn by least squares: to what the old layer gives, from what the layers
    replaced before it bring. Statistics of batch-norm are taken anew. No activation is put between a
    design's parts. In the end the whole model learns from the answers of the model before (Adam, batch 128,
    one-cycle); zeros of other layers stay. Convolutions of 1x1, in groups, with fewer than four inputs, or
    that would not have fewer weights stay, and the report says why. Raises SlimscopeError where no
    layer fits, and Cancelled through `progress`.
    """
    wanted = Design(design, *_used(design, groups, expansion))
    labels, unfit = fitting(bundle, wanted, leave_out)
    teacher, images = zoo.build(bundle), data.train.stratified(samples).inputs()
    now, errors = bundle, dict[str, tuple[float, float]]()
    share = FITTING if epochs else 1.0
    for number, label in enumerate(labels):
        progress(share * number / len(labels))
        now, errors[label] = replaced(now, teacher, label, wanted, images, rounds)
    now, _ = averages.normal_again(now, images)
    rows = [{"epoch": 0.0, "validation accuracy": measure.right(now, data.validation)}]
    after = now
    if epochs:
        net = zoo.fork(now)
        plan = Plan(epochs, learning_rate, optimizer="adam", weight_decay=0.0, seed=seed)
        rows += training.tune(
            net,
            data,
            plan,
            progress,
            told=progress.part(share, 1.0),
            loss=learning_from(teacher, temperature, alpha),
            masks=_masks(net, labels),
        )
        after = training.trained(now, net)
    curve = training.curve(rows).reindex(columns=list(rows[-1]))
    tables = {"curve": curve, "layers": _layers(bundle, after, errors, unfit, leave_out)}
    count = Figure(
        "convolutions replaced", len(labels), "layers", Basis.COUNTED, "layers that have the new design"
    )
    figures = (*training.change(bundle, after, data.validation), *reports.costs(bundle, after), count)
    return after, Report(figures, tables, _notes(bundle, data, unfit, leave_out, epochs, len(images)))


def _used(design: str, groups: int, expansion: int) -> tuple[int, int]:
    """Groups and expansion, 1 where a design has none: so that equal models have equal edits."""
    return groups if design in ("grouped", "shuffled") else 1, expansion if design == "inverted" else 1


def _masks(net: nn.Module, labels: Sequence[str]) -> dict[str, Tensor]:
    """Zeros that stay: not those of new layers, which nobody pruned."""
    new = tuple(f"{label}." for label in labels)
    return {name: mask for name, mask in zero_masks(net).items() if not name.startswith(new)}


# ---------------------------------------------------------------- the report


def _layers(
    before: Bundle,
    after: Bundle,
    errors: Mapping[str, tuple[float, float]],
    unfit: Mapping[str, str],
    leave_out: Sequence[str],
) -> pd.DataFrame:
    """Every layer, so that columns add up to the net's."""
    tables = [kinds.macs_by_layer(bundle) for bundle in (before, after)]
    rows: list[tuple[Any, ...]] = []
    for label, name in weight_layers(before).items():
        new = [x for x in weight_layers(after) if x == label or x.startswith(f"{label}.")]
        left = sum(torch.Size(after.params[weight_layers(after)[x]].shape).numel() for x in new)
        macs = [tables[0].get(label), sum(tables[1].get(x, 0) for x in new)]
        weights = torch.Size(before.params[name].shape).numel()
        own = errors.get(label, (None, None))
        rows.append((label, label in errors, unfit.get(label, ""), weights, left, *macs, *own))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _notes(
    bundle: Bundle, data: Data, unfit: Mapping[str, str], leave_out: Sequence[str], epochs: int, images: int
) -> tuple[str, ...]:
    kept = {label: why for label, why in unfit.items() if label not in leave_out}
    return (
        f"New layers were fitted on {images:,} training samples of {data.name}.",
        *([reports.trained_on(data)] if epochs else []),
        *reports.reasons("Stay as they are:", kept),
        *reports.named("Left out:", leave_out),
        *(reports.decoded(bundle) if epochs else []),
    )
