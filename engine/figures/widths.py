"""What each layer costs and loses at each width, alone: the table that bits are dealt out by.

It is remembered under the model and the samples, so that a budget that moves only asks for another choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from engine.data.sets import Samples
from engine.figures import measure
from engine.file.packfile import coded
from engine.memory import remembered
from engine.net import curvature, hutchinson, incremental
from engine.tensor import grids
from engine.tensor.formats import Grid
from engine.tensor.granularity import named
from engine.tensor.grids import sum_of_squares
from engine.types import Bundle

LISTED = ("layer", "bits", "bytes", "squared_error")
SENSITIVITIES = {
    "trace": "Hessian trace over weights, times squared error: how steep the loss gets (HAWQ-V2)",
    "curvature": "weight by weight: the loss's curvature at a weight, times its squared error",
    "kl": "KL of the outputs with this layer alone rounded, from the outputs before",
    "accuracy": "how many more samples are wrong with this layer alone rounded: takes many samples",
    "error": "squared error of the weights: the model is not asked",
}

Layers = tuple[tuple[str, str], ...]  # label and weight's name
Widths = tuple[tuple[str, int], ...]  # a weight's name and its bits


@dataclass(frozen=True)
class Rounding:
    """How weights are rounded, whatever the width: as `quantize` does with a symmetric scheme."""

    granularity: str
    range: str

    def grid(self, values: Tensor, bits: int) -> Grid:
        return grids.quantize(values, bits, True, named(self.granularity, 1), self.range)


def rounded(bundle: Bundle, widths: Widths, how: Rounding) -> Bundle:
    """The bundle with the named weights in their bits."""
    grid_of = {name: how.grid(bundle.params[name].decode(), bits) for name, bits in widths}
    return bundle.become({**bundle.params, **grid_of})


def told(
    bundle: Bundle,
    layers: Layers,
    bits: tuple[int, ...],
    how: Rounding,
    sensitivity: str,
    samples: Samples,
    count: int,
    seed: int,
) -> pd.DataFrame:
    """A row for each layer and width: columns LISTED, and `sensitivity` as SENSITIVITIES say.

    That is what the layer is expected to lose alone: nat of the loss or of KL, a share of the samples, or
    squared weights. It is told on `count` of the samples, picked by the seed.
    """
    rows, names = costs(bundle, layers, bits, how), tuple(name for _, name in layers)
    match sensitivity:
        case "trace":
            means = mean_diagonals(bundle, samples, count, seed)
            factor = [max(means[name], 0.0) / 2 for name in names for _ in bits]
            return rows.assign(sensitivity=factor * rows["squared_error"])
        case "curvature":
            curved = by_curvature(bundle, names, bits, how, samples, count, seed)
            return rows.assign(sensitivity=curved)
        case "kl" | "accuracy":
            return rows.assign(sensitivity=alone(bundle, names, bits, how, samples, count, seed)[sensitivity])
    return rows.assign(sensitivity=rows["squared_error"])


@remembered
def costs(bundle: Bundle, layers: Layers, bits: tuple[int, ...], how: Rounding) -> pd.DataFrame:
    """Columns LISTED; bytes are those of the layer's sections in the file, scales included."""
    rows = []
    for layer, name in layers:
        values = bundle.params[name].decode()
        for width in bits:
            grid = how.grid(values, width)
            size = sum(len(data) for _, _, data in coded.sections(name, grid))
            rows.append((layer, width, size, sum_of_squares(grid.decode() - values)))
    return pd.DataFrame(rows, columns=LISTED)


# ---------------------------------------------------------------- what the loss notices


def mean_diagonals(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, float]:
    """Weight's name -> the mean of the Hessian's diagonal over it, by Hutchinson's estimate of the trace."""
    found = hutchinson.traces_of(bundle, samples, count, seed)
    return {name: float(each.mean()) / bundle.params[name].decode().numel() for name, each in found.items()}


@remembered
def by_curvature(
    bundle: Bundle,
    names: tuple[str, ...],
    bits: tuple[int, ...],
    how: Rounding,
    samples: Samples,
    count: int,
    seed: int,
) -> tuple[float, ...]:
    """Half the sum of curvature times squared error, weight by weight, in the order of `costs`."""
    curves = curvature.diagonal_of(bundle, samples, count, seed)
    found = []
    for name in names:
        values = bundle.params[name].decode()
        errors = (how.grid(values, width).decode() - values for width in bits)
        found += [float((curves[name].double() * error.double().square()).sum()) / 2 for error in errors]
    return tuple(found)


@remembered
def alone(
    bundle: Bundle,
    names: tuple[str, ...],
    bits: tuple[int, ...],
    how: Rounding,
    samples: Samples,
    count: int,
    seed: int,
) -> pd.DataFrame:
    """One layer rounded at a time, in the order of `costs`: columns kl (nat) and accuracy (a share).

    KL is from the outputs of the bundle as it is to those of the rounded one; `accuracy` is how many more of
    the samples are wrong. Only what lies behind the rounded layer is worked out anew.
    """
    part = samples.stratified(count, seed)
    before, trace = incremental.logits(bundle, part)
    right, rows = before.argmax(1) == part.labels, []
    for name in names:
        for width in bits:
            after = incremental.logits(rounded(bundle, ((name, width),), how), part, trace, keep=False)[0]
            lost = int(right.sum()) - int((after.argmax(1) == part.labels).sum())
            rows.append((measure.kl(before, after).value, lost / len(part)))
    return pd.DataFrame(rows, columns=("kl", "accuracy"))
