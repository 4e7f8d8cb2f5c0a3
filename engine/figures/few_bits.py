"""What trainings in few bits do alike: round weights and inputs, train both with their steps, and report.

Rounded weights are LSQ's (Esser 2020, arXiv 1902.08153): -2^(b-1) .. 2^(b-1) - 1 steps, and what enters a
layer 0 .. 2^b - 1 steps, or as the weights where some of it is negative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from engine.data.sets import Data
from engine.figures import measure, reports, rounding, training
from engine.net import zoo
from engine.net.input_quantizer import VERBS, is_of_quantizer
from engine.net.taps import calibration, has_name, inputs_seen, is_inside, module_of, notes_of_states
from engine.net.train import (
    Loss,
    Part,
    Plan,
    by_format,
    hard_labels,
    stored,
    stored_steps,
    train_inputs,
    train_on,
)
from engine.tensor import grids
from engine.tensor.formats import AffineGrid, Dense
from engine.tensor.granularity import named
from engine.types import Arch, Bundle, Param, Progress, Report, weight_layers

CURVE = ("epoch", "loss", "train accuracy", "validation accuracy")
STEP_COLUMNS = ("epoch", "layer", "of", "times_first")  # a step size over the one that it began with
LAYER_COLUMNS = (
    *("layer", "weights", "bits", "bits_per_weight", "levels_used", "first_step", "step"),
    *("input_bits", "first_input_step", "input_step"),
)
OF_WEIGHTS, OF_INPUTS = "weights", "inputs"
STEP_OF = "step of "  # in live rows, before what it is the step of
SCALE, PRUNE = ".input_quantizer.scale", ".input_quantizer.prune"
PRUNED, CLIPPED = "prune point", "clip point"  # of an interval, over the clip point that it began with
FIRST = {PRUNED: 0.0}  # all else begins at 1
Beside = Callable[[Bundle], Mapping[str, float]]  # what live rows say of what learns beside the weights


@dataclass(frozen=True)
class Widths:
    """Bits of weights and of what enters layers (None: 32-bit floats); of the first and last layer `ends`."""

    weights: int
    inputs: int | None
    ends: int


@dataclass(frozen=True)
class Start:
    """Where a training begins: weights as floats behind rounded inputs, and the formats that round them.

    `masks` is empty where zeros may become other values; None: they stay.
    """

    floats: Bundle
    grids: Mapping[str, Param]
    masks: Mapping[str, torch.Tensor] | None

    @property
    def rounded(self) -> Bundle:
        return self.floats.become({**self.floats.params, **self.grids})


def begin(
    bundle: Bundle,
    data: Data,
    widths: Widths,
    granularity: str,
    keep_zeros: bool,
    grid: str = "new",
    prunes: bool = False,
) -> Start:
    """Choose the first steps: those of the weights from their mean size, those of inputs on training samples.

    What was rounded before starts from its values; its step sizes and input quantizers go. With `grid` `own`,
    weights that lie on a grid stay on it, and its step sizes are the first ones. With `prunes`, inputs that
    are never negative have a prune point, which begins at zero.
    """
    layers = weight_layers(bundle)
    ends = {module_of(layers[label]) for label in [*layers][:: max(1, len(layers) - 1)]}  # first and last
    width = {name: widths.ends if module_of(name) in ends else widths.weights for name in layers.values()}
    values = {name: bundle.params[name].decode() for name in layers.values()}
    found = {
        name: grids.learned(values[name], bits, named(granularity, 1), zeros=not keep_zeros)
        for name, bits in width.items()
    }
    if grid == "own":
        found |= {name: own for name in found if isinstance(own := bundle.params[name], AffineGrid)}
    edits = tuple(edit for edit in bundle.arch.edits if edit[0] not in VERBS)
    arch = Arch(bundle.arch.name, edits, bundle.arch.config)
    params: dict[str, Param] = {
        name: Dense(values[name]) if name in values else param
        for name, param in bundle.params.items()
        if not is_of_quantizer(name)
    }
    floats = bundle.become(params, arch)
    if widths.inputs is not None:
        modules = {m: widths.ends if m in ends else widths.inputs for m in map(module_of, values)}
        floats = _with_inputs(floats, data, modules, prunes)
    return Start(floats, found, None if keep_zeros else {})


def _with_inputs(bundle: Bundle, data: Data, widths: Mapping[str, int], prunes: bool) -> Bundle:
    """The model with a quantizer before each module, on the step that its inputs suggest."""
    arch, params = bundle.arch, dict(bundle.params)
    for name, seen in inputs_seen(bundle, calibration(data), list(widths), "minmax").items():
        values, bits = seen.values, widths[name]
        signed = bool(seen.lows.min() < 0)
        step = grids.first_step(values.double().abs().mean().view(1), bits, signed)
        own = {"prunes": True} if prunes and not signed else {}
        arch = arch.edit("quantize_input", layer=name, bits=bits, symmetric=False, dynamic=False, **own)
        if own:
            params[has_name(name) + PRUNE] = Dense(torch.zeros(1))
        params[has_name(name) + SCALE] = Dense(step)
        params[f"{name}.input_quantizer.zero"] = Dense(torch.tensor([float(grids.middle(bits, signed))]))
    return bundle.become(params, arch)


# ---------------------------------------------------------------- training


def plan(epochs: int, learning_rate: float, weight_decay: float, precision: str, seed: int) -> Plan:
    """How weights and step sizes are trained: by SGD along a cosine."""
    return Plan(
        epochs, learning_rate, schedule="cosine", weight_decay=weight_decay, precision=precision, seed=seed
    )


def train(
    start: Start,
    data: Data,
    plan: Plan,
    progress: Progress,
    name: str,
    *,
    learned: bool,
    loss: Loss = hard_labels,
    told: Progress | None = None,
    way: Callable[[Any], nn.Module] = by_format,
    beside: Beside | None = None,
    stages: Sequence[Callable[[], object]] = (tuple,),
) -> tuple[Bundle, list[dict[str, float]]]:
    """The model after a training on its grids, in their format, and the live series.

    With `learned`, step sizes train as well, and rows say how many times the first they are, or what
    `beside` makes of the model then. `name` and `told` are those of `training.tune`, `way` that of
    `train_on`. Each of `stages` is called before a training by the whole plan, which goes on from the last.
    """
    net, first = zoo.fork(start.floats), _steps(start.rounded)
    parts = (train_on(net, start.grids, ties=start.floats.arch.ties, way=way), train_inputs(net))
    for part in parts:
        part.module.requires_grad_(learned)

    def watch(net: nn.Module) -> dict[str, float]:
        right = training.accuracy_on(data.validation)(net)
        now = _after(start, net, parts[0])
        says = beside(now) if beside is not None else times_first(first, _steps(now))
        return {**right, **(says if learned else {})}

    rows: list[dict[str, float]] = []
    for number, begin_stage in enumerate(stages):
        begin_stage()
        later = training.later(number * plan.epochs)
        share = (told or progress).part(number / len(stages), (number + 1) / len(stages), later)
        run = name if len(stages) == 1 else f"{name}-{number}"
        made = training.tune(
            net, data, plan, progress, run, told=share, loss=loss, masks=start.masks, parts=parts, watch=watch
        )
        rows += map(later, made)
    return _after(start, net, parts[0]), rows


def _after(start: Start, net: nn.Module, part: Part) -> Bundle:
    """Everything as it was trained: weights as codes and steps, the rest as 32-bit floats."""
    weights, state = stored(net, part), {**net.state_dict(), **stored_steps(net)}
    others = {
        n: Dense(state[n].detach().clone().contiguous()) for n in start.floats.params if n not in weights
    }
    return start.floats.become({**start.floats.params, **others, **weights})


def times_first(first: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """What live rows say of `OF of LAYER` -> a number that learns: it over the one that it began with.

    >>> times_first({"weights of fc1": 0.5}, {"weights of fc1": 0.25})
    {'step of weights of fc1': 0.5}
    """
    return {STEP_OF + key: now[key] / size for key, size in first.items()}


def _steps(bundle: Bundle) -> dict[str, float]:
    """`weights of LAYER` and `inputs of LAYER` -> the step size, on average over those of a layer."""
    weights = {
        f"{OF_WEIGHTS} of {label}": float(param.scale.mean())
        for label, name in weight_layers(bundle).items()
        if isinstance(param := bundle.params[name], AffineGrid)
    }
    return weights | {
        f"{OF_INPUTS} of {name.removesuffix(SCALE)}": float(param.decode())
        for name, param in bundle.params.items()
        if name.endswith(SCALE)
    }


# ---------------------------------------------------------------- the report


def report(
    before: Bundle,
    start: Start,
    after: Bundle,
    data: Data,
    plan: Plan,
    rows: Sequence[Mapping[str, float]],
    layers: pd.DataFrame | None = None,
) -> Report:
    """Accuracy before, rounded without training, and after, on validation; bits of a weight; tables.

    `plan` and `rows` are the training's. `layers` is the table of layers where that is not `layer_table`.
    """
    labels, answers = data.validation.labels, measure.predictions(start.rounded, data.validation)
    found = measure.accuracy_of(answers, labels)
    untrained = replace(found, name=f"validation {found.name}, rounded and not trained")
    layers = layer_table(start, after) if layers is None else layers
    change = training.change(before, after, data.validation)
    tables = {
        "curve": curve(measure.right_of(answers, labels), rows),
        "steps": step_table(rows),
        "layers": layers,
    }
    figures = (*change, untrained, rounding.bits_per_weight(layers))
    said = (*notes(before, start, after, data), *reports.multiplied(plan.precision))
    return Report(figures, tables, said)


def curve(untrained: float, rows: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Columns CURVE; epoch 0 is the model that is rounded and not trained."""
    first = {"epoch": 0.0, "validation accuracy": untrained}
    return pd.DataFrame([first, *rows], columns=list(CURVE)).astype({"epoch": int})


def step_table(rows: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Columns STEP_COLUMNS, of the rows of a training: each step size over its first, at the start and after
    each epoch.

    >>> step_table([{"epoch": 1.0, "step of weights of fc1": 0.9}]).values.tolist()
    [[0.0, 'fc1', 'weights', 1.0], [1.0, 'fc1', 'weights', 0.9]]
    """
    found = []
    for row in rows:
        for key in (key for key in row if key.startswith(STEP_OF)):
            of, _, layer = key.removeprefix(STEP_OF).partition(" of ")
            found.append((row["epoch"], layer, of, row[key]))
    first = [(0.0, layer, of, FIRST.get(of, 1.0)) for layer, of in dict.fromkeys(each[1:3] for each in found)]
    return pd.DataFrame([*first, *found], columns=STEP_COLUMNS)


def layer_table(start: Start, after: Bundle) -> pd.DataFrame:
    """Columns LAYER_COLUMNS; several step sizes of a layer are told by their mean.

    The columns of inputs are left out where none are rounded, and empty for weights that read inner states.
    """
    first, now = _steps(start.rounded), _steps(after)
    input_bits = {own["layer"]: own["bits"] for verb, own in after.arch.edits if verb == "quantize_input"}
    rows = []
    for label, name in weight_layers(after).items():
        grid, module = after.params[name], None if is_inside(name) else module_of(name)
        assert isinstance(grid, AffineGrid)
        row = {
            "layer": label,
            "weights": grid.codes.numel(),
            "bits": grid.bits,
            "bits_per_weight": grid.fixed_bits() / grid.codes.numel(),
            "levels_used": len(torch.unique(grid.codes)),
            "first_step": first[f"{OF_WEIGHTS} of {label}"],
            "step": now[f"{OF_WEIGHTS} of {label}"],
            "input_bits": input_bits.get(module),
            "first_input_step": first.get(f"{OF_INPUTS} of {module}"),
            "input_step": now.get(f"{OF_INPUTS} of {module}"),
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=LAYER_COLUMNS).dropna(axis=1, how="all")


def notes(before: Bundle, start: Start, after: Bundle, data: Data) -> tuple[str, ...]:
    """What it was trained on, what stayed 32-bit floats, and zeros of rounding that could not change."""
    rounded = {name.removesuffix(SCALE) for name in after.params if name.endswith(SCALE)}
    modules = dict.fromkeys(module_of(name) for name in start.grids)
    floats = [name for name in modules if rounded and name not in rounded]
    coded = {label: before.params[name] for label, name in weight_layers(before).items()}
    held = [
        x for x, param in coded.items() if not isinstance(param, Dense) and bool((param.decode() == 0).any())
    ]
    return (
        reports.trained_on(data),
        *reports.named("What enters these layers stays 32-bit floats:", floats),
        *(notes_of_states(start.grids) if rounded else ()),
        *reports.named(
            "Zeros stayed zero, those that rounding had made as well, in",
            held if start.masks is None else (),
            ": with Keep zeros off they may become other values.",
        ),
    )
