"""SmoothQuant: move outliers of what enters layers into their weights, where no answer changes by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import closeness, reports
from engine.net import rounded_inputs, smoothing, zoo
from engine.net.channels.migrating import LAYERS, migrations
from engine.net.channels.parts import Group
from engine.net.smoothing import Ranges, Seen
from engine.net.surgery import get_layer
from engine.net.taps import module_of
from engine.recipe import settings
from engine.recipe.knobs import Slider
from engine.recipe.technique import technique
from engine.tensor import smooth
from engine.tensor.equalize import MOST, precision
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, Report, SlimscopeError, weight_layers

CHECKED = 100  # validation samples on which answers are compared
LAYER_COLUMNS = (
    *("layer", "inputs", "divided_in", "error_before", "error_after"),
    *("input_precision_before", "input_precision_after", "weight_precision_before", "weight_precision_after"),
)
CHANNEL_COLUMNS = (
    *("maker", "channel", "divided_by"),
    *("inputs_before", "inputs_after", "weights_before", "weights_after"),
)


def possible(bundle: Bundle) -> None:
    """Raises SlimscopeError for a model in which no range can move without changing an answer."""
    if bundle.arch.runs and not migrations(bundle.arch):
        raise SlimscopeError(
            f"{bundle.arch.title} has no normalisation, and no layer behind ReLU or the like, that layers "
            "alone read: nothing in front of a layer can be divided exactly"
        )


@technique(
    family="quantize",
    title="SmoothQuant",
    reference="Xiao et al. 2023, SmoothQuant: Accurate and Efficient Post-Training Quantization for Large "
    "Language Models, arXiv 2211.10438",
    page="smoothquant",
    stage=691,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS, "channels": CHANNEL_COLUMNS},
    possible=possible,
    aha="A token has one scale for all its channels, so a single wide channel makes the steps of all others "
    "coarse. Weights have room: divide the channel there, multiply it here, and no answer changes.",
    trap="By itself it makes nothing smaller, and at alpha = 1 the outliers are in the weights: quantize "
    "after it and compare. A small model has few outliers, so little is won.",
    presets={"gentle": {"alpha": 0.25}, "balanced": {}, "extreme": {"alpha": 0.85}},
    needs_model=True,
)
def smoothquant(
    bundle: Bundle,
    data: Data,
    *,
    alpha: Annotated[
        float,
        Slider(
            low=0.0,
            high=1.0,
            step=0.05,
            unit="share of the range that moves",
            label="Alpha",
            help="How much of the range moves from inputs to weights: at 0 weights become even, at 1 inputs "
            "do, at 0.5 both have the same range in every channel.",
        ),
    ] = 0.5,
    calibration: Annotated[int, settings.calibration(())] = 256,
    leave_out: Annotated[
        Sequence[str], settings.leave_out("Layers that are not touched, nor others that read the same.")
    ] = (),
) -> tuple[Bundle, Report]:
    """Divides channels by s = max|X|^alpha / max|W|^(1 - alpha) where they are made, and multiplies readers.

    The model answers as before. A channel can be divided in a normalisation, or in a layer with nothing but
    ReLU, pooling or the like behind it, where layers alone read it; what other layers read stays, and they
    are named. Exact zeros stay exact zeros. Put it before quantize: it raises SlimscopeError where what
    enters layers is rounded already, and for recurrent models.
    """
    rounded_inputs.refuse(bundle.arch, "smoothquant")
    possible(bundle)
    known = {
        maker: group
        for maker, group in migrations(bundle.arch).items()
        if not any(part.param.removesuffix(".weight") in leave_out for part in group.reads)
    }
    seen = smoothing.seen(bundle, data.train, calibration)
    found = {maker: seen.ranges[maker] for maker in known if maker in seen.ranges}
    factors = {maker: smooth.factors(each.inputs, each.weights, alpha) for maker, each in found.items()}
    after = smoothing.smoothed(bundle, known, factors)
    layers = _layers(bundle, known, seen, factors)
    change = closeness.answers_differ(bundle, after, data.validation.stratified(CHECKED))
    tables = {"layers": layers, "channels": _channels(found, factors)}
    return after, Report(
        (*_figures(layers), change), tables, _notes(bundle, after, layers, factors, leave_out)
    )


def _layers(
    bundle: Bundle, known: Mapping[str, Group], seen: Seen, factors: Mapping[str, Tensor]
) -> pd.DataFrame:
    """A row for each layer whose inputs are divided: how even its channels are, and what rounding costs."""
    label_of = {module_of(name): label for label, name in weight_layers(bundle).items()}
    net, rows = zoo.build(bundle), []
    for reader, (maker, part) in smoothing.readers({maker: known[maker] for maker in factors}).items():
        layer, each, x = get_layer(net, reader), seen.ranges[maker], seen.entered[reader]
        inputs, weights = smooth.divided(each.inputs, each.weights, factors[maker])
        by = (torch.ones_like(each.inputs), factors[maker])
        errors = [smoothing.output_error(layer, x, part, factor) for factor in by]
        even = [precision(one) for one in (each.inputs, inputs, each.weights, weights)]
        rows.append((label_of[reader], len(inputs), maker, *errors, *even))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _channels(found: Mapping[str, Ranges], factors: Mapping[str, Tensor]) -> pd.DataFrame:
    """Each channel of each maker; the weights are those of all its readers."""
    rows: list[tuple[Any, ...]] = []
    for maker, each in found.items():
        inputs, weights = smooth.divided(each.inputs, each.weights, factors[maker])
        columns = (factors[maker], each.inputs, inputs, each.weights, weights)
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        rows += [(maker, channel, *row) for channel, row in enumerate(numbers)]
    return pd.DataFrame(rows, columns=CHANNEL_COLUMNS)


def _figures(layers: pd.DataFrame) -> tuple[Figure, ...]:
    how = (
        "norm of (rounded outputs - outputs) over the norm of these, mean over the layers that are divided: "
        f"{smoothing.BITS} bits, one scale for all weights, one for each token or image that enters; "
        "on training samples"
    )
    divided = Figure(
        "divided inputs", len(layers), "layers", Basis.COUNTED, "layers whose inputs are divided"
    )
    if layers.empty:
        return (divided,)
    told = (("before", "error_before"), ("after", "error_after"))
    return (
        divided,
        *(
            Figure(f"output error {when}", float(layers[column].mean()), "share", Basis.MEASURED, how)
            for when, column in told
        ),
    )


def _notes(
    before: Bundle,
    after: Bundle,
    layers: pd.DataFrame,
    factors: Mapping[str, Tensor],
    leave_out: Sequence[str],
) -> tuple[str, ...]:
    net, divided = zoo.skeleton(before.arch), {*layers["layer"], *leave_out}
    stays = [
        label
        for label, name in weight_layers(before).items()
        if label not in divided and isinstance(get_layer(net, module_of(name)), LAYERS)
    ]
    far = [maker for maker, each in factors.items() if bool(((each >= MOST) | (each <= 1 / MOST)).any())]
    coded = [
        name
        for name, param in before.params.items()
        if not isinstance(param, Dense) and after.params[name] is not param
    ]
    return (
        *reports.named(
            "What these layers read stays, since nothing in front of them can be divided exactly:", stays
        ),
        *reports.named("Left out:", leave_out),
        *reports.named(
            "Some channels of", far, f" would need a factor beyond {MOST:,.0f}, the most there is."
        ),
        *reports.floats_again(coded, ": put quantize after this step to have codes again"),
    )
