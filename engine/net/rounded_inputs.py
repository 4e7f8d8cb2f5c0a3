"""What enters layers, rounded: ranges from calibration images, an edit for each layer, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch

from engine.data.sets import Data
from engine.net.taps import CALIBRATION, SKETCH, Seen, has_name, inputs_seen, module_of, notes_of_states
from engine.tensor import calibrate, grids
from engine.tensor.formats import Dense, Grid
from engine.tensor.granularity import TENSOR
from engine.types import Arch, Bundle, Param, SlimscopeError

AVERAGE = "average"  # of the extremes of one image after another
COLUMNS = ("layer", "bits", "kind", "seen_low", "seen_high", "scale", "zero", "sqnr_db", "clipped")


@dataclass(frozen=True)
class Plan:
    """How inputs are rounded: `range` is a calibration method or AVERAGE.

    Dynamic grids always span the extremes of their batch.
    """

    bits: int
    symmetric: bool
    dynamic: bool
    range: str
    percentile: float

    def grid(self, seen: Seen) -> Grid:
        """What was seen of one layer's input, on its grid."""
        if self.range == AVERAGE:
            low, high = (calibrate.moving_average(each) for each in (seen.lows, seen.highs))
            return grids.on_range(seen.values, low, high, self.bits, self.symmetric)
        return grids.quantize(seen.values, self.bits, self.symmetric, TENSOR, self.range, self.percentile)


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
    modules = [*dict.fromkeys(map(module_of, names.values()))]  # several matrices may share one input
    seen = inputs_seen(bundle, data, modules, "minmax" if plan.range == AVERAGE else plan.range)
    arch: Arch = bundle.arch
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for name, values in seen.items():
        grid = plan.grid(values)
        arch = arch.edit(
            "quantize_input", layer=name, bits=plan.bits, symmetric=plan.symmetric, dynamic=plan.dynamic
        )
        if not plan.dynamic:
            params[f"{has_name(name)}.input_quantizer.scale"] = Dense(grid.scale)
            params[f"{name}.input_quantizer.zero"] = Dense(grid.zero.to(torch.float32))
        error = grids.error(values.values, grid, plan.symmetric)
        rows.append(
            {
                "layer": name,
                "bits": plan.bits,
                "kind": "dynamic" if plan.dynamic else "static",
                "seen_low": float(values.lows.min()),
                "seen_high": float(values.highs.max()),
                "scale": float(grid.scale),
                "zero": int(grid.zero),
                "sqnr_db": error.sqnr_db,
                "clipped": error.clipped,
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return bundle.become(params, arch), table, [name for name in modules if name not in seen]


def notes(table: pd.DataFrame, plan: Plan, names: Mapping[str, str]) -> tuple[str, ...]:
    """What a report says of rounded inputs, beside its table."""
    sample = f"{CALIBRATION} fixed training images, every class in its share"
    said = [
        f"Scales shown for activations are those of {sample}; as the model runs, each batch has its own."
        if plan.dynamic
        else f"Activation ranges were read from {sample}, with the weights already rounded."
    ]
    if plan.range not in ("minmax", AVERAGE):
        said.append(f"They look at up to {SKETCH:,} evenly spaced values of each layer's input.")
    positive = table.loc[table["seen_low"] >= 0, "layer"].tolist()
    if plan.symmetric and positive:
        said.append(
            f"What enters {', '.join(positive)} is never negative: a symmetric grid leaves half of its codes "
            "unused there. The asymmetric scheme uses them all."
        )
    return (*said, *notes_of_states(names.values()))
