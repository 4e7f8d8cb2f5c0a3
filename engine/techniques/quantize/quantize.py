"""Quantize: round weights, and on request what enters each layer, to a few evenly spaced values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports
from engine.net import rounded_inputs, rounded_sums
from engine.net.rounded_inputs import Plan
from engine.net.taps import CALIBRATION
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider, Toggle
from engine.recipe.technique import technique
from engine.tensor import grids
from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import named
from engine.types import Basis, Bundle, Figure, Param, Report, weight_layers

BITS = Slider(
    low=1,
    high=16,
    whole=True,
    unit="bits",
    label="Bits",
    help="Width of a code: b bits can name 2^b different values.",
)
LAYER_COLUMNS = (
    "layer",
    "weights",
    "bits",
    "scales",
    "bits_per_weight",
    "sqnr_db",
    "mse",
    "max_error",
    "levels_used",
    "clipped",
    "range_low",
    "range_high",
)


@technique(
    family="quantize",
    title="Quantize",
    reference="Jacob et al. 2018, Quantization and Training of Neural Networks, arXiv 1712.05877",
    page="quantize",
    stage=700,
    runs="instant",
    locality="row",
    tables={"layers": LAYER_COLUMNS, "activations": rounded_inputs.COLUMNS},
    presets={"gentle": {"bits": 8}, "balanced": {"bits": 5}, "extreme": {"bits": 3, "range": "mse"}},
)
def quantize(
    bundle: Bundle,
    data: Data | None,
    *,
    bits: Annotated[int, BITS] = 8,
    scheme: settings.Scheme = "symmetric",
    granularity: settings.ScaleGranularity = "channel",
    group: settings.GroupSize = 64,
    range: Annotated[
        str,
        Choice(
            label="Range",
            help="Which values the grid spans; what lies outside is clipped to its ends.",
            options={
                "minmax": "from the smallest to the largest: nothing is clipped, outliers widen all steps",
                "percentile": "a share of the non-zero values: outliers are clipped",
                "mse": "the clip with the least squared error, of 100 that are tried",
                "kl": "the clip whose histogram tells most of the values': TensorRT's entropy calibration",
                "aciq": "a clip from a formula, for values of a normal or Laplace distribution (Banner 2019)",
            },
        ),
    ] = "minmax",
    percentile: Annotated[
        float,
        Slider(
            low=95.0,
            high=100.0,
            step=0.05,
            unit="%",
            label="Percentile",
            help="How many of the non-zero values stay inside of the range; of those beyond it, half lie at "
            "each end, or, with symmetric levels, wherever magnitudes are largest.",
            when=(("range", ("percentile",)),),
        ),
    ] = 99.9,
    activations: Annotated[
        str,
        Choice(
            label="Activations",
            help="Whether the numbers that enter each layer are rounded, too.",
            options={
                "none": "they stay 32-bit floats",
                "static": "with ranges found beforehand on training samples",
                "dynamic": "with the range of each batch, taken as it runs",
                "token": "with a range for each sample, or each token of a sequence, taken as it runs",
            },
        ),
    ] = "none",
    activation_bits: Annotated[
        int,
        Slider(
            low=2,
            high=16,
            whole=True,
            unit="bits",
            label="Activation bits",
            help="Width of the codes of what enters a layer.",
            when=(("activations", ("static", "dynamic", "token")),),
        ),
    ] = 8,
    activation_range: Annotated[
        str,
        Choice(
            label="Activation range",
            help="Which values the grid of what enters a layer spans, as calibration samples show them.",
            options={
                "same": "found as for the weights",
                "minmax": "from the smallest to the largest value seen",
                "average": "from sample to sample, the smallest and largest move by 1 % to those of the next",
                "percentile": "a share of the non-zero values, of its own",
                "mse": "the clip with the least squared error, of 100 that are tried",
                "kl": "the clip of least divergence between 2,048 bins and the levels: TensorRT's",
                "aciq": "a clip from a formula, one-sided behind ReLU (Banner 2019)",
            },
            when=(("activations", ("static",)),),
            advanced=True,
            added=True,
        ),
    ] = "same",
    activation_percentile: Annotated[
        float,
        Slider(
            low=99.0,
            high=100.0,
            step=0.01,
            unit="%",
            label="Activation percentile",
            help="How many of the non-zero values that enter a layer stay inside of its range.",
            when=(("activations", ("static",)), ("activation_range", ("percentile",))),
            advanced=True,
            added=True,
        ),
    ] = 99.9,
    calibration: Annotated[int, settings.calibration((("activations", ("static",)),))] = CALIBRATION,
    round_sums: Annotated[
        bool,
        Toggle(
            label="Round what is added",
            help="What layers give to a residual sum or an average is rounded before it, too: runtimes need "
            "it whose convolutions of codes give codes, or such layers stay on floats.",
            when=(("activations", ("static",)),),
            advanced=True,
            added=True,
        ),
    ] = False,
    rounding: Annotated[
        str,
        Choice(
            label="Rounding",
            help="Which of the two levels around a weight it takes.",
            options={
                "nearest": "the nearer one, which loses least",
                "stochastic": "by chance, the nearer one more often: right on average, with more error",
            },
            advanced=True,
            added=True,
        ),
    ] = "nearest",
    seed: Annotated[
        int,
        settings.seed(
            "Fixes which weights are rounded up.", when=(("rounding", ("stochastic",)),), added=True
        ),
    ] = 0,
    round_weights: Annotated[
        bool,
        Toggle(
            label="Round weights",
            help="Off, weights stay as they are, and only what enters layers is rounded.",
            when=(("activations", ("static", "dynamic", "token")),),
            advanced=True,
            added=True,
        ),
    ] = True,
    per_layer: Annotated[
        Mapping[str, int],
        settings.per_layer(BITS, "Own bits", "Layers whose weights have a bit width of their own."),
    ] = settings.NONE,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Round weights to an even grid of 2^bits values and store the codes with their scales.

    Biases and normalisation stay 32-bit floats. Exact zeros stay exact zeros, so pruned weights
    stay pruned. Activations are rounded in the same scheme, with one scale per layer input, or per token.
    """
    symmetric = scheme == "symmetric"
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    params: dict[str, Param] = dict(bundle.params)
    rows, chance = [], seed if rounding == "stochastic" else None
    for label, name in names.items() if round_weights or activations == "none" else ():
        values, width = bundle.params[name].decode(), per_layer.get(label, bits)
        grid = grids.quantize(values, width, symmetric, named(granularity, group), range, percentile, chance)
        params[name] = grid
        rows.append(_row(label, values, grid, symmetric))
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS)
    after, tables, notes = bundle.become(params), {"layers": layers}, _notes(layers, symmetric, leave_out)
    if activations == "none":
        return after, Report(_figures(layers), tables, notes)
    own = (range, percentile) if activation_range == "same" else (activation_range, activation_percentile)
    found = own if activations == "static" else ("minmax", percentile)
    images = min(calibration, 0 if data is None else len(data.train))
    plan = Plan(activation_bits, symmetric, activations != "static", *found, activations == "token", images)
    after, tables["activations"], floats = rounded_inputs.round_inputs(after, data, names, plan)
    if round_sums and activations == "static":
        after, added = rounded_sums.round_for(after, data, names, plan)
        notes += tuple(reports.named("Rounded before they are added up:", added))
    notes += rounded_inputs.notes(tables["activations"], plan, names)
    notes += tuple(reports.named("What enters these layers stays 32-bit floats:", floats))
    how = "layers whose input is rounded"
    inputs = Figure("rounded inputs", len(tables["activations"]), "layers", Basis.COUNTED, how)
    return after, Report(_figures(layers) if rows else (inputs,), tables, notes)


def _row(label: str, values: Tensor, grid: AffineGrid, symmetric: bool) -> dict[str, Any]:
    """`range_low` and `range_high` are the outermost levels over all rows."""
    bottom, top = code_range(grid.bits, symmetric)
    error = grids.error(values, grid, symmetric)
    scales, weights = grid.scale.numel(), values.numel()
    # Each scale is a 32-bit float; a zero point is a code.
    overhead = scales * (32 + (0 if symmetric else grid.bits))
    third = symmetric and grid.bits == 1 and bool((grid.codes == 0).any())  # a symbol for pruned zeros
    return {
        "layer": label,
        "weights": weights,
        "bits": grid.bits,
        "scales": scales,
        "bits_per_weight": grid.bits + third + overhead / weights,
        **vars(error),
        "range_low": float(((bottom - grid.zero) * grid.scale).min()),
        "range_high": float(((top - grid.zero) * grid.scale).max()),
    }


def _figures(layers: pd.DataFrame) -> tuple[Figure, ...]:
    weights = layers["weights"]
    total = max(int(weights.sum()), 1)
    mean_bits = float((layers["bits_per_weight"] * weights).sum()) / total
    mse = float((layers["mse"] * weights).sum()) / total
    return (
        Figure(
            "bits per weight",
            mean_bits,
            "bits",
            Basis.MODELLED,
            "code width (2 bits for the three symbols of pruned signs) + 32 bits per scale + a code per zero "
            "point, over the weights of this step's layers",
        ),
        Figure(
            "mean squared error",
            mse,
            "squared weight",
            Basis.COUNTED,
            "mean of (w - rounded w)^2 over the weights of this step's layers, against its input",
        ),
    )


def _notes(layers: pd.DataFrame, symmetric: bool, leave_out: Sequence[str]) -> tuple[str, ...]:
    notes = []
    single = layers.loc[layers["bits"] == 1, "layer"].tolist()
    if single and symmetric:
        notes.append(
            f"One bit in {', '.join(single)}: the sign times the mean size of the non-zero weights, whatever "
            "the range says. Exact zeros stay zero, so a pruned layer needs a third symbol for them."
        )
    return (*notes, *reports.named("Left out:", leave_out))
