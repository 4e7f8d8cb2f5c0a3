"""Learned intervals (QIL): training finds below which size a weight is pruned, and above which clipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated

import pandas as pd

from engine.data.sets import Data
from engine.figures import few_bits
from engine.figures.few_bits import CLIPPED, CURVE, PRUNED, STEP_COLUMNS, Start, Widths
from engine.net.taps import module_of
from engine.recipe import settings
from engine.recipe.knobs import Toggle
from engine.recipe.technique import Cost, technique
from engine.tensor.formats import AffineGrid
from engine.tensor.intervals import Interval
from engine.types import Bundle, Param, Progress, Report, weight_layers

WIDEST = 5  # bits of the first stage, where bits go down step by step
LAYER_COLUMNS = (
    *few_bits.LAYER_COLUMNS,
    *("zeros", "first_clip_point", "prune_point", "clip_point"),
    *("input_prune_point", "input_clip_point"),
)


@technique(
    family="quantize",
    title="Learned intervals",
    reference="Jung et al. 2019, Quantization Interval Learning, arXiv 1808.05779",
    stage=725,
    runs="trains",
    cost=lambda chosen: Cost(2 * chosen["epochs"] * len(_widths(chosen["bits"], chosen["progressive"]))),
    locality="model",
    tables={"curve": CURVE, "steps": STEP_COLUMNS, "layers": LAYER_COLUMNS},
    aha="Two numbers a layer say which weights matter: below the interval they are pruned, above it they are "
    "clipped, and all levels go to what lies between. The loss itself moves both ends.",
    trap="What is pruned or clipped has no gradient any more: it comes back only if the interval moves. And "
    "only weights have one at first; what enters a layer has a step size, which clips but never prunes, "
    "unless it is given an interval, too.",
    presets={
        "gentle": {"bits": 4, "activation_bits": 4},
        "balanced": {"bits": 3, "activation_bits": 3},
        "extreme": {"bits": 2, "activation_bits": 2},
    },
)
def learn_intervals(
    bundle: Bundle,
    data: Data,
    *,
    bits: settings.TrainedBits = 3,
    activations: settings.RoundInputs = True,
    activation_bits: settings.InputBits = 3,
    end_bits: settings.EndBits = 8,
    progressive: Annotated[
        bool,
        Toggle(
            label="Step by step",
            help=f"Whether weights are trained with {WIDEST} bits first and one bit less after that, each "
            "for all epochs, down to their bits.",
        ),
    ] = False,
    epochs: Annotated[int, settings.epochs("How often the model sees all training samples.")] = 5,
    learning_rate: Annotated[
        float,
        settings.learning_rate(
            "How far a step moves weights, intervals and step sizes at the start; it falls to zero along a "
            "cosine."
        ),
    ] = 0.003,
    keep_zeros: settings.KeepZeros = True,
    input_intervals: Annotated[
        bool,
        Toggle(
            label="Intervals of inputs",
            help="Whether what enters a layer has an interval that learns as well, where none of it is "
            "negative: what lies below its prune point becomes zero.",
            when=(("activations", (True,)),),
            advanced=True,
            added=True,
        ),
    ] = False,
    precision: settings.AddedPrecision = "float32",
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Train weights that are rounded within an interval of their magnitudes; the interval learns as well.

    Each layer has one: magnitudes from its prune point to its clip point become 0 to 1, then one of q + 1
    even levels, q = 2^(b-1) - 1, times a scale that learns; beyond the clip point they are 1. It begins at
    zero and ends where the squared error is least. Rounding passes gradients straight through. What enters a
    layer is rounded with step sizes that learn (LSQ), which is an interval that begins at zero, or with
    `input_intervals` with a prune point that learns from zero up. Biases and normalisation train along as
    32-bit floats. Adam, batch 128, no weight decay, a cosine schedule; images are moved by a few pixels, and
    photos mirrored. What was rounded before starts from its rounded values. Raises Cancelled through
    `progress`.
    """
    widths = Widths(bits, activation_bits if activations else None, end_bits)
    start, modules = _begin(bundle, data, widths, keep_zeros, input_intervals)
    own = {label: module.bits for label, module in modules.items()}
    stages = [partial(_set_bits, modules, own, x, x == bits) for x in _widths(bits, progressive)]
    plan = replace(few_bits.plan(epochs, learning_rate, 0.0, precision, seed), optimizer="adam")
    first = {label: module.points()[1] for label, module in modules.items()}
    first |= {label: clip for label, (_, clip) in _of_inputs(start.floats).items()}
    after, rows = few_bits.train(
        start,
        data,
        plan,
        progress,
        "net",
        learned=True,
        way={start.grids[name]: modules[label] for label, name in weight_layers(bundle).items()}.__getitem__,
        beside=lambda now: _told(_ends(modules) | _of_inputs(now), first),
        stages=stages,
    )
    layers = _layers(start, after, modules, first)
    return after, few_bits.report(bundle, start, after, data, plan, rows, layers)


def _widths(bits: int, progressive: bool) -> list[int]:
    """The bits that weights are trained with, one training after another.

    >>> _widths(3, True), _widths(3, False), _widths(8, True)
    ([5, 4, 3], [3], [8])
    """
    return [*range(WIDEST, bits, -1), bits] if progressive else [bits]


def _begin(
    bundle: Bundle, data: Data, widths: Widths, keep_zeros: bool, prunes: bool
) -> tuple[Start, dict[str, Interval]]:
    """Layer -> its interval, and the grids that these make of the weights."""
    start = few_bits.begin(bundle, data, widths, "tensor", keep_zeros, prunes=prunes)
    modules, grids = dict[str, Interval](), dict[str, Param]()
    for label, name in weight_layers(bundle).items():
        values, grid = start.floats.params[name].decode(), start.grids[name]
        assert isinstance(grid, AffineGrid)
        modules[label] = Interval(values, grid.bits)
        grids[name] = modules[label].encode(values)
    return replace(start, grids=grids), modules


def _set_bits(modules: Mapping[str, Interval], own: Mapping[str, int], width: int, last: bool) -> None:
    """A stage begins: no layer has fewer bits than it is to have in the end."""
    for label, module in modules.items():
        module.bits = own[label] if last else max(own[label], width)


def _ends(modules: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    return {label: module.points() for label, module in modules.items()}


def _of_inputs(bundle: Bundle) -> dict[str, tuple[float, float]]:
    """`inputs of MODULE` -> the prune point and the clip point of what enters it, where that is pruned."""
    found = {}
    for verb, own in bundle.arch.edits:
        if verb == "quantize_input" and own.get("prunes"):
            layer, top = own["layer"], 2 ** own["bits"] - 1
            prune, step = (bundle.params[layer + x].decode().item() for x in (few_bits.PRUNE, few_bits.SCALE))
            found[f"{few_bits.OF_INPUTS} of {layer}"] = prune, prune + step * top
    return found


def _told(ends: Mapping[str, tuple[float, float]], first: Mapping[str, float]) -> dict[str, float]:
    """Both ends of each interval, over the clip point that it began with."""
    return {
        f"{few_bits.STEP_OF}{of} of {label}": points[at] / first[label]
        for at, of in enumerate((PRUNED, CLIPPED))
        for label, points in ends.items()
    }


def _layers(
    start: Start, after: Bundle, modules: Mapping[str, Interval], first: Mapping[str, float]
) -> pd.DataFrame:
    table, names = few_bits.layer_table(start, after), weight_layers(after)
    points = [modules[label].points() for label in table["layer"]]
    if inputs := _of_inputs(after):
        keys = [f"{few_bits.OF_INPUTS} of {module_of(names[label])}" for label in table["layer"]]
        ends = [inputs.get(key, (None, None)) for key in keys]
        table[list(LAYER_COLUMNS[-2:])] = pd.DataFrame(ends, index=table.index)
    return table.assign(
        zeros=[int((after.params[names[label]].decode() == 0).sum()) for label in table["layer"]],
        first_clip_point=[first[label] for label in table["layer"]],
        prune_point=[prune for prune, _ in points],
        clip_point=[clip for _, clip in points],
    )
