"""Slim: train with a penalty on batch-norm's scales, then take out the channels whose scale has died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.figures import measure, reports, training
from engine.net import channels, zoo
from engine.net.channels import Group, Part
from engine.net.train import Loss, Plan, hard_labels
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import Cost, technique
from engine.types import Arch, Basis, Bundle, Figure, Progress, Report, SlimscopeError

PENALTY, NARROW = "with the penalty", "narrow net"  # the two trainings
SCALE_COLUMNS = ("layer", "channel", "before", "trained", "kept")


@technique(
    family="prune",
    title="Slim",
    reference="Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, "
    "arXiv 1708.06519",
    page="filters",
    stage=310,
    runs="trains",
    cost=lambda chosen: Cost(chosen["epochs"] + chosen["tuning"]),
    locality="model",
    tables={
        "curve": ("epoch", "loss", "train accuracy", "validation accuracy", "run"),
        "scales": SCALE_COLUMNS,
        "layers": channels.LAYER_COLUMNS,
    },
    presets={
        "gentle": {"removed": 0.3},
        "balanced": {"removed": 0.5},
        "extreme": {"removed": 0.7, "epochs": 10, "tuning": 6},
    },
    possible=lambda bundle: scales_of(bundle),
)
def slim(
    bundle: Bundle,
    data: Data,
    *,
    removed: Annotated[
        float,
        settings.removed(
            "channels", "The share of the channels behind batch-norm that goes, the smallest factors first."
        ),
    ] = 0.5,
    allocation: Annotated[
        str,
        Choice(
            label="Allocation",
            help="Where scales compete for survival: inside their layer, or all against all.",
            options={
                "global": "one ranking of all scales: the model chooses its own widths (Liu 2017)",
                "layer": "every layer loses the same share",
            },
        ),
    ] = "global",
    strength: Annotated[
        float,
        Slider(
            low=1e-6,
            high=1e-1,
            scale="log",
            unit="loss per unit of scale",
            label="Penalty",
            help="How hard each scale is pulled to zero while the model trains: 1e-4 to 1e-3 is usual.",
        ),
    ] = 1e-3,
    epochs: Annotated[
        int, settings.epochs("How often the model sees all training samples under the penalty.", high=60)
    ] = 5,
    tuning: Annotated[
        int,
        Slider(
            low=0,
            high=60,
            whole=True,
            unit="epochs",
            label="Tuning",
            help="How often the narrow model sees them, without the penalty; 0 shows what the cut does.",
        ),
    ] = 3,
    learning_rate: Annotated[
        float, settings.learning_rate("Where both trainings begin; it falls to zero along a cosine.")
    ] = 0.02,
    weight_decay: settings.WeightDecay = 1e-4,
    leave_out: Annotated[
        Sequence[str], settings.leave_out("Layers that keep all their filters, and have no penalty.")
    ] = (),
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Trains with an L1 penalty on batch-norm's scales, then takes out the channels of smallest scale.

    The penalty, strength * sum |scale|, makes the model choose between its channels: those that it can spare
    come close to zero, and leave without much harm. Then the narrow model is trained without it. Channels
    that shortcuts pass on stay; at least one channel of each layer does. Zeros stay. Stochastic gradient
    descent with Nesterov momentum 0.9, batch 128. The result is 32-bit floats.
    Raises SlimscopeError for models without batch-norm, and Cancelled through `progress`.
    """
    scales = scales_of(bundle, leave_out)
    known = channels.groups(bundle)
    plan = Plan(epochs, learning_rate, schedule="cosine", weight_decay=weight_decay, seed=seed)
    share = epochs / (epochs + tuning)
    net = zoo.fork(bundle)
    later = training.later(epochs)
    parts = progress.part(0.0, share), progress.part(share, 1.0, later)
    before = measure.predictions(bundle, data.validation)
    loss = penalised([part.param for part in scales.values()], strength)
    learned = training.tune(net, data, plan, progress, "penalty", told=parts[0], loss=loss)
    trained = training.trained(bundle, net)
    size = {name: _sizes(trained, part) for name, part in scales.items()}
    gone = channels.smallest(size, removed, allocation, {})
    cut = channels.keep(trained, channels.kept_of(known, gone))
    after, tuned = cut, []
    if tuning:
        net = zoo.fork(cut)
        plan = replace(plan, epochs=tuning, seed=plan.seed + 1)
        tuned = training.tune(net, data, plan, progress, "narrow", told=parts[1])
        after = training.trained(cut, net)
    curve = [{**row, "run": PENALTY} for row in learned]
    curve += [{**later(row), "run": NARROW} for row in tuned]
    layers = channels.layer_table(bundle, after)
    tables = {"curve": training.curve(curve), "scales": _table(bundle, scales, size, gone), "layers": layers}
    figures = _figures(bundle, (trained, cut, after), layers, before, data)
    return after, Report(figures, tables, _notes(bundle, data, known, scales, size, gone))


# ---------------------------------------------------------------- scales


def scales_of(bundle: Bundle, leave_out: Sequence[str] = ()) -> dict[str, Part]:
    """Group of channels -> where its scales lie, one for each channel.

    Raises SlimscopeError where no channels that can go have batch-norm.
    """
    known = channels.groups(bundle)
    found = {name: scale for name, group in known.items() if (scale := _scale_of(group))}
    if not found:
        able = ", ".join(n for n in zoo.ENTRIES if any(map(_is_mean, zoo.skeleton(Arch(n)).state_dict())))
        raise SlimscopeError(
            f"{bundle.arch.title} has no batch-norm behind channels that can go: slim's penalty is on its "
            f"scales; the zoo's models with it are {able}"
        )
    return {name: scale for name, scale in found.items() if not set(known[name].layers) & set(leave_out)}


def _scale_of(group: Group) -> Part | None:
    means = {part.param.rpartition(".")[0] for part in group.makes if _is_mean(part.param)}
    scales = (part for part in group.makes if part.param.rpartition(".")[0] in means)
    return None if group.stream else next((p for p in scales if p.param.endswith(".weight")), None)


def _sizes(bundle: Bundle, part: Part) -> Tensor:
    """The size of each channel's scale (channels,)."""
    return bundle.params[part.param].decode().abs()[list(part.at)]


def _is_mean(name: str) -> bool:
    return name.endswith(".running_mean")


def penalised(scales: Sequence[str], strength: float) -> Loss:
    """Cross-entropy plus strength times the sum of the sizes of all scales (names of parameters).

    The gradient of |scale| is its sign, and 0 at 0: a scale that is zero is not moved by the penalty.
    """

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = hard_labels(net, inputs, labels)
        sizes = [net.get_parameter(name).abs().sum() for name in dict.fromkeys(scales)]
        return value + strength * torch.stack(sizes).sum() if sizes else value, logits

    return loss


# ---------------------------------------------------------------- the report


def _table(
    bundle: Bundle, scales: Mapping[str, Part], size: Mapping[str, Tensor], gone: Mapping[str, set[int]]
) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for name, part in scales.items():
        first = _sizes(bundle, part).tolist()
        for channel, (old, new) in enumerate(zip(first, size[name].tolist(), strict=True)):
            rows.append((name, channel, old, new, channel not in gone[name]))
    return pd.DataFrame(rows, columns=SCALE_COLUMNS)


def _figures(
    before: Bundle, nets: tuple[Bundle, Bundle, Bundle], layers: pd.DataFrame, first: Tensor, data: Data
) -> tuple[Figure, ...]:
    labels = data.validation.labels
    answers = [measure.predictions(net, data.validation) for net in nets]
    on_the_way = zip(("under the penalty", "right after the cut"), answers, strict=False)
    return (
        *measure.before_and_after(first, answers[-1], labels),
        *(
            replace(measure.accuracy_of(a, labels), name=f"validation accuracy {when}")
            for when, a in on_the_way
        ),
        Figure(
            "channels removed",
            int(layers["removed"].sum()),
            "channels",
            Basis.COUNTED,
            "filters and units of all layers before minus after",
        ),
        *reports.costs(before, nets[-1]),
    )


def _notes(
    bundle: Bundle,
    data: Data,
    known: Mapping[str, Group],
    scales: Mapping[str, Part],
    size: Mapping[str, Tensor],
    gone: Mapping[str, set[int]],
) -> tuple[str, ...]:
    notes = [reports.trained_on(data)]
    lost = [float(size[name][channel]) for name, channels_gone in gone.items() for channel in channels_gone]
    if lost:
        largest = max(float(values.max()) for values in size.values())
        notes.append(
            f"The largest scale that went is {max(lost):.3g}, the largest of all {largest:.3g}: what went "
            "with it is what the cut costs. A stronger penalty or more epochs bring it closer to zero."
        )
    single = [name for name in scales if len(gone[name]) == known[name].channels - 1 and gone[name]]
    notes += reports.named("Only one channel is left in", single, ": all that follows depends on it.")
    if any(group.stream for group in known.values()):
        notes.append("Channels that shortcuts pass on stay: they are made by several layers at once.")
    plain = [name for name, group in known.items() if not group.stream and not _scale_of(group)]
    notes += reports.named("No batch-norm is behind", plain, ": their channels stay.")
    return (*notes, *reports.decoded(bundle))
