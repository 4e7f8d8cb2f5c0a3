"""What enters layers, rounded: ranges from calibration images, an edit for each layer, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.net.input_quantizer import InputQuantizer, alone_of
from engine.net.taps import (
    CALIBRATION,
    SKETCH,
    Seen,
    calibration,
    has_name,
    inputs_seen,
    module_of,
    notes_of_states,
)
from engine.tensor import calibrate, grids
from engine.tensor.formats import AffineGrid, Dense
from engine.tensor.granularity import TENSOR
from engine.types import Arch, Bundle, Param, SlimscopeError

AVERAGE = "average"  # of the extremes of one image after another
COLUMNS = ("layer", "bits", "kind", "seen_low", "seen_high", "scale", "zero", "sqnr_db", "clipped")


@dataclass(frozen=True)
class Plan:
    """How inputs are rounded: `range` is a calibration method or AVERAGE.

    Dynamic grids always span extremes: of their batch, or with `tokens` of each sample or token. So many
    training `images` are looked at.
    """

    bits: int
    symmetric: bool
    dynamic: bool
    range: str
    percentile: float
    tokens: bool = False
    images: int = CALIBRATION

    @property
    def kind(self) -> str:
        return "token" if self.tokens else "dynamic" if self.dynamic else "static"

    @property
    def seen_as(self) -> str:
        """The range that a sketch of values is for."""
        return "minmax" if self.range == AVERAGE else self.range

    def grid(self, seen: Seen) -> AffineGrid:
        """What was seen of one layer's input, on its grid."""
        if self.range == AVERAGE:
            low, high = (calibrate.moving_average(each) for each in (seen.lows, seen.highs))
            return grids.on_range(seen.values, low, high, self.bits, self.symmetric)
        return grids.quantize(seen.values, self.bits, self.symmetric, TENSOR, self.range, self.percentile)


@dataclass
class Tokens:
    """What rounding each token by itself costs one layer, added up over its calls."""

    signal: float = 0.0
    noise: float = 0.0
    values: int = 0
    clipped: int = 0
    scales: float = 0.0
    tokens: int = 0

    def add(self, plan: Plan, layer: nn.Module, x: Tensor) -> None:
        quantizer = InputQuantizer(plan.bits, plan.symmetric, True, alone_of(layer))
        scale, lost = quantizer.affine(x)[0], x - quantizer.eval()(x)
        self.signal += grids.sum_of_squares(x)
        self.noise += grids.sum_of_squares(lost)
        self.values += x.numel()
        self.clipped += int((lost.abs() > 0.5001 * scale).sum())  # within a grid it is half a step at most
        self.scales += float(scale.double().sum())
        self.tokens += scale.numel()

    def row(self, plan: Plan) -> dict[str, Any]:
        """The mean step over tokens; zero points differ where levels are asymmetric."""
        return {
            "scale": self.scales / self.tokens,
            "zero": 0 if plan.symmetric else math.nan,
            "sqnr_db": grids.decibels(self.signal, self.noise),
            "clipped": self.clipped / self.values,
        }


def refuse(arch: Arch, step: str) -> None:
    """Raises SlimscopeError where what enters layers is rounded already, and `step` must come before that."""
    if any(verb == "quantize_input" for verb, _ in arch.edits):
        raise SlimscopeError(
            f"what enters the layers of this model is rounded already, with ranges of its own: put {step} "
            "before the step that does so"
        )


def round_inputs(
    bundle: Bundle, data: Data | None, names: Mapping[str, str], plan: Plan
) -> tuple[Bundle, pd.DataFrame, list[str]]:
    """The bundle with rounded inputs of the layers `names` (label -> weight); a row each; those left floats.

    Raises SlimscopeError where no model can be run.
    """
    if data is None or not bundle.arch.runs:
        raise SlimscopeError(
            "activations can only be quantized where a model runs: it needs a known architecture with data; "
            "choose activations = 'none'"
        )
    return calibrated(bundle, calibration(data, plan.images), names, plan)


def calibrated(
    bundle: Bundle, images: Tensor, names: Mapping[str, str], plan: Plan
) -> tuple[Bundle, pd.DataFrame, list[str]]:
    """As `round_inputs`, with ranges from these images."""
    modules = [*dict.fromkeys(map(module_of, names.values()))]  # several matrices may share one input
    tokens = {name: Tokens() for name in modules if plan.tokens}

    def meet(name: str, layer: nn.Module, x: Tensor) -> None:
        if name in tokens:
            tokens[name].add(plan, layer, x)

    seen = inputs_seen(bundle, images, modules, plan.seen_as, meet)
    arch: Arch = bundle.arch
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for name, values in seen.items():
        own = {"bits": plan.bits, "symmetric": plan.symmetric, "dynamic": plan.dynamic}
        arch = arch.edit("quantize_input", layer=name, **own, **({"tokens": True} if plan.tokens else {}))
        grid = plan.grid(values)
        if not plan.dynamic:
            params[f"{has_name(name)}.input_quantizer.scale"] = Dense(grid.scale)
            params[f"{name}.input_quantizer.zero"] = Dense(grid.zero.to(torch.float32))
        rows.append(
            {
                "layer": name,
                "bits": plan.bits,
                "kind": plan.kind,
                "seen_low": float(values.lows.min()),
                "seen_high": float(values.highs.max()),
                **(tokens[name].row(plan) if plan.tokens else _row(values, grid, plan)),
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return bundle.become(params, arch), table, [name for name in modules if name not in seen]


def _row(seen: Seen, grid: AffineGrid, plan: Plan) -> dict[str, Any]:
    error = grids.error(seen.values, grid, plan.symmetric)
    return {
        "scale": float(grid.scale),
        "zero": int(grid.zero),
        "sqnr_db": error.sqnr_db,
        "clipped": error.clipped,
    }


def notes(table: pd.DataFrame, plan: Plan, names: Mapping[str, str]) -> tuple[str, ...]:
    """What a report says of rounded inputs, beside its table."""
    sample = f"{plan.images:,} fixed training samples, every class in its share"
    said = {
        "static": f"Activation ranges were read from {sample}, with the weights already rounded.",
        "dynamic": f"Scales shown for activations are those of {sample}; as the model runs, each batch has "
        "its own.",
        "token": f"Scales shown for activations are means over {sample}; as the model runs, each sample has "
        "its own, and in linear and recurrent layers each token of a sequence.",
    }
    told = [said[plan.kind]]
    if plan.range not in ("minmax", AVERAGE):
        told.append(f"They look at up to {SKETCH:,} evenly spaced values of each layer's input.")
    positive = table.loc[table["seen_low"] >= 0, "layer"].tolist()
    if plan.symmetric and positive:
        told.append(
            f"What enters {', '.join(positive)} is never negative: a symmetric grid leaves half of its codes "
            "unused there. The asymmetric scheme uses them all."
        )
    return (*told, *notes_of_states(names.values()))
