"""What rounding cost a layer, whatever the format: errors counted on it, and bits a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from engine.tensor.grids import decibels, sum_of_squares
from engine.types import Basis, Bundle, Figure, Param

COLUMNS = ("layer", "weights", "bits_per_weight", "sqnr_db", "mse", "max_error", "levels_used")


def row(layer: str, values: Tensor, param: Param) -> dict[str, Any]:
    """One row of a report's `layers`: columns COLUMNS. `param` has the `values` in codes."""
    original = values.detach()
    difference = param.decode() - original
    noise = sum_of_squares(difference)
    return {
        "layer": layer,
        "weights": original.numel(),
        "bits_per_weight": param.fixed_bits() / original.numel(),
        "sqnr_db": decibels(sum_of_squares(original), noise),
        "mse": noise / original.numel(),
        "max_error": float(difference.abs().max()),
        "levels_used": len(torch.unique(param.tensors()["codes"])),
    }


def table(
    before: Bundle,
    after: Bundle,
    names: Mapping[str, str],
    said: Mapping[str, Mapping[str, Any]],
    columns: Sequence[str],
) -> pd.DataFrame:
    """A row for each layer of `names` (label -> weight): COLUMNS, and what was `said` of it beside."""
    rows = [
        {**row(label, before.params[name].decode(), after.params[name]), **said.get(label, {})}
        for label, name in names.items()
    ]
    return pd.DataFrame(rows, columns=list(columns))


def bits_per_weight(layers: pd.DataFrame) -> Figure:
    """The mean over the layers of a step: columns `weights` and `bits_per_weight`."""
    weights = layers["weights"]
    return Figure(
        "bits per weight",
        float((layers["bits_per_weight"] * weights).sum()) / max(int(weights.sum()), 1),
        "bits",
        Basis.MODELLED,
        "codes at fixed width and the scales that belong to them, over the weights of this step's layers",
    )


def figures(layers: pd.DataFrame) -> tuple[Figure, Figure]:
    """Bits a weight and mean squared error over the layers of a step: columns COLUMNS."""
    weights = layers["weights"]
    return (
        bits_per_weight(layers),
        Figure(
            "mean squared error",
            float((layers["mse"] * weights).sum()) / max(int(weights.sum()), 1),
            "squared weight",
            Basis.COUNTED,
            "mean of (w - rounded w)^2 over the weights of this step's layers, against its input",
        ),
    )
