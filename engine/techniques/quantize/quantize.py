"""Quantize: round weights, and on request what enters each layer, to a few evenly spaced values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports
from engine.net.taps import CALIBRATION, SKETCH, inputs_seen, module_of
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import technique
from engine.tensor import grids
from engine.tensor.affine import code_range
from engine.tensor.formats import Dense, Grid
from engine.tensor.granularity import TENSOR, named
from engine.types import Arch, Basis, Bundle, Figure, Param, Report, SlimscopeError, weight_layers

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
ACTIVATION_COLUMNS = ("layer", "bits", "kind", "seen_low", "seen_high", "scale", "zero", "sqnr_db", "clipped")


@technique(
    family="quantize",
    title="Quantize",
    reference="Jacob et al. 2018, Quantization and Training of Neural Networks, arXiv 1712.05877",
    page="quantize",
    stage=700,
    runs="instant",
    locality="row",
    tables={"layers": LAYER_COLUMNS, "activations": ACTIVATION_COLUMNS},
    presets={"gentle": {"bits": 8}, "balanced": {"bits": 5}, "extreme": {"bits": 3, "range": "mse"}},
)
def quantize(
    bundle: Bundle,
    data: Data | None,
    *,
    bits: Annotated[int, BITS] = 8,
    scheme: Annotated[
        str,
        Choice(
            label="Scheme",
            help="Whether the grid is centred on zero or shifted to fit the range of the weights.",
            options={
                "symmetric": "the same range on both sides of zero; zero is code 0",
                "asymmetric": "from the smallest to the largest weight; a zero point shifts the codes",
            },
        ),
    ] = "symmetric",
    granularity: Annotated[
        str,
        Choice(
            label="One scale per",
            help="How many weights share one step size: fewer is finer, but every scale takes 32 bits.",
            options={
                "tensor": "one scale for the whole layer",
                "channel": "one scale for each output of the layer",
                "group": "one scale for each run of weights inside an output",
            },
        ),
    ] = "channel",
    group: Annotated[
        int,
        Slider(
            low=8,
            high=256,
            whole=True,
            step=8,
            unit="weights",
            label="Group size",
            help="Consecutive weights that share one scale.",
            when=(("granularity", ("group",)),),
        ),
    ] = 64,
    range: Annotated[
        str,
        Choice(
            label="Range",
            help="Which values the grid spans; what lies outside is clipped to its ends.",
            options={
                "minmax": "from the smallest to the largest: nothing is clipped, outliers widen all steps",
                "percentile": "a share of the non-zero values: outliers are clipped",
                "mse": "the clip with the least squared error, of 100 that are tried",
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
                "static": "with ranges found beforehand on training images",
                "dynamic": "with the range of each batch, taken as it runs",
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
            when=(("activations", ("static", "dynamic")),),
        ),
    ] = 8,
    per_layer: Annotated[
        Mapping[str, int],
        settings.per_layer(BITS, "Own bits", "Layers whose weights have a bit width of their own."),
    ] = settings.NONE,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Round weights to an even grid of 2^bits values and store the codes with their scales.

    Biases and normalisation stay 32-bit floats. Exact zeros stay exact zeros, so pruned weights
    stay pruned. Activations are rounded with one scale per layer input, in the same scheme and range.
    """
    symmetric = scheme == "symmetric"
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for label, name in names.items():
        values = bundle.params[name].decode()
        width = per_layer.get(label, bits)
        grid = grids.quantize(values, width, symmetric, named(granularity, group), range, percentile)
        params[name] = grid
        rows.append(_row(label, values, grid, symmetric))
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS)
    after, tables, notes = bundle.become(params), {"layers": layers}, _notes(layers, symmetric, leave_out)
    if activations != "none":
        dynamic = activations == "dynamic"
        plan = _Plan(activation_bits, symmetric, dynamic, "minmax" if dynamic else range, percentile)
        modules = _modules(names)
        seen = inputs_seen(after, _with_net(bundle, data), modules, plan.range)
        after, tables["activations"] = _quantize_inputs(after, seen, plan)
        notes += _activation_notes(tables["activations"], plan, names)
        floats = [name for name in modules if name not in seen]
        notes = (*notes, *reports.named("What enters these layers stays 32-bit floats:", floats))
    return after, Report(_figures(layers), tables, notes)


def _row(label: str, values: Tensor, grid: Grid, symmetric: bool) -> dict[str, Any]:
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


# ---------------------------------------------------------------- activations


@dataclass(frozen=True)
class _Plan:
    """How inputs are rounded. Dynamic grids always span the extremes of their batch."""

    bits: int
    symmetric: bool
    dynamic: bool
    range: str
    percentile: float


def _with_net(bundle: Bundle, data: Data | None) -> Data:
    if data is None or not bundle.arch.runs:
        raise SlimscopeError(
            "activations can only be quantized where a model runs: it needs a known architecture with data; "
            "choose activations = 'none'"
        )
    return data


def _modules(names: Mapping[str, str]) -> list[str]:
    """Module names, each once: several matrices may share one input, as in recurrent layers."""
    return list(dict.fromkeys(map(module_of, names.values())))


def _quantize_inputs(bundle: Bundle, seen: Mapping[str, Tensor], plan: _Plan) -> tuple[Bundle, pd.DataFrame]:
    arch: Arch = bundle.arch
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for name, values in seen.items():
        grid = grids.quantize(values, plan.bits, plan.symmetric, TENSOR, plan.range, plan.percentile)
        arch = arch.edit(
            "quantize_input", layer=name, bits=plan.bits, symmetric=plan.symmetric, dynamic=plan.dynamic
        )
        if not plan.dynamic:
            params[f"{name}.input_quantizer.scale"] = Dense(grid.scale)
            params[f"{name}.input_quantizer.zero"] = Dense(grid.zero.to(torch.float32))
        error = grids.error(values, grid, plan.symmetric)
        rows.append(
            {
                "layer": name,
                "bits": plan.bits,
                "kind": "dynamic" if plan.dynamic else "static",
                "seen_low": float(values.min()),
                "seen_high": float(values.max()),
                "scale": float(grid.scale),
                "zero": int(grid.zero),
                "sqnr_db": error.sqnr_db,
                "clipped": error.clipped,
            }
        )
    return bundle.become(params, arch), pd.DataFrame(rows, columns=ACTIVATION_COLUMNS)


def _activation_notes(table: pd.DataFrame, plan: _Plan, names: Mapping[str, str]) -> tuple[str, ...]:
    sample = f"{CALIBRATION} fixed training images, every class in its share"
    notes = [
        f"Scales shown for activations are those of {sample}; as the model runs, each batch has its own."
        if plan.dynamic
        else f"Activation ranges were read from {sample}, with the weights already rounded."
    ]
    if plan.range != "minmax":
        notes.append(f"They look at up to {SKETCH:,} evenly spaced values of each layer's input.")
    positive = table.loc[table["seen_low"] >= 0, "layer"].tolist()
    if plan.symmetric and positive:
        notes.append(
            f"What enters {', '.join(positive)} is never negative: a symmetric grid leaves half of its codes "
            "unused there. The asymmetric scheme uses them all."
        )
    if any("weight_hh" in name for name in names.values()):
        notes.append("Inside of a recurrent layer the states that pass from step to step stay 32-bit floats.")
    return tuple(notes)
