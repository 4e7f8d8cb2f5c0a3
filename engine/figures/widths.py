"""What each layer costs and loses at each width, alone: the table that bits are dealt out by.

It is remembered under the model and the samples, so that a budget that moves only asks for another choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from engine.data.sets import Samples
from engine.figures import measure
from engine.file.packfile import coded
from engine.memory import remembered
from engine.net import curvature, hutchinson, incremental, integer_inputs
from engine.tensor import grids
from engine.tensor.granularity import named
from engine.tensor.grids import sum_of_squares
from engine.types import Bundle, Param

LISTED = ("layer", "bits", "bytes", "squared_error")
SENSITIVITIES = {
    "trace": "Hessian trace over weights, times squared error: how steep the loss gets (HAWQ-V2)",
    "curvature": "weight by weight: the loss's curvature at a weight, times its squared error",
    "kl": "KL of the outputs with this layer alone rounded, from the outputs before",
    "accuracy": "how many more samples are wrong with this layer alone rounded: takes many samples",
    "error": "squared error of the weights: the model is not asked",
}
AS_IT_IS = 32  # bits of a layer that is not rounded

Layers = tuple[tuple[str, str], ...]  # label and weight's name
Widths = tuple[tuple[str, int], ...]  # a weight's name and its bits


@dataclass(frozen=True)
class Rounding:
    """How weights are rounded, whatever the width: as `quantize` does with a symmetric scheme.

    With samples for `inputs`, what enters a rounded layer has 8 bits, on the range that these show.
    """

    granularity: str
    range: str
    inputs: Samples | None = None

    def param(self, param: Param, bits: int) -> Param:
        """A weight in its bits."""
        if bits == AS_IT_IS:
            return param
        return grids.quantize(param.decode(), bits, True, named(self.granularity, 1), self.range)


@dataclass(frozen=True)
class Question:
    """What a table is about: layers and widths of a bundle, and which samples tell what is lost."""

    bundle: Bundle
    layers: Layers
    bits: tuple[int, ...]
    how: Rounding
    samples: Samples
    count: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.layers)


def rounded(bundle: Bundle, widths: Widths, how: Rounding) -> Bundle:
    """The bundle with the named weights in their bits."""
    params = {name: how.param(bundle.params[name], bits) for name, bits in widths}
    after = bundle.become({**bundle.params, **params})
    if how.inputs is None:
        return after
    return integer_inputs.round_for(after, bundle, [n for n, bits in widths if bits < AS_IT_IS], how.inputs)


def told(asked: Question, sensitivity: str) -> pd.DataFrame:
    """A row for each layer and width: columns LISTED, and `sensitivity` as SENSITIVITIES say.

    That is what the layer is expected to lose alone: nat of the loss or of KL, a share of the samples, or
    squared weights. It is told on `count` of the samples, picked by the seed.
    """
    rows = costs(asked.bundle, asked.layers, asked.bits, asked.how)
    match sensitivity:
        case "trace":
            means = mean_diagonals(asked.bundle, asked.samples, asked.count, asked.seed)
            factor = [max(means[name], 0.0) / 2 for name in asked.names for _ in asked.bits]
            return rows.assign(sensitivity=factor * rows["squared_error"])
        case "curvature":
            return rows.assign(sensitivity=by_curvature(asked))
        case "kl" | "accuracy":
            return rows.assign(sensitivity=alone(asked)[sensitivity])
    return rows.assign(sensitivity=rows["squared_error"])


@remembered
def costs(bundle: Bundle, layers: Layers, bits: tuple[int, ...], how: Rounding) -> pd.DataFrame:
    """Columns LISTED; bytes are those of the layer's sections in the file, scales included."""
    rows = []
    for layer, name in layers:
        values = bundle.params[name].decode()
        for width in bits:
            param = how.param(bundle.params[name], width)
            size = sum(len(data) for _, _, data in coded.sections(name, param))
            rows.append((layer, width, size, sum_of_squares(param.decode() - values)))
    return pd.DataFrame(rows, columns=LISTED)


# ---------------------------------------------------------------- what the loss notices


def mean_diagonals(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, float]:
    """Weight's name -> the mean of the Hessian's diagonal over it, by Hutchinson's estimate of the trace."""
    found = hutchinson.traces_of(bundle, samples, count, seed)
    return {name: float(each.mean()) / bundle.params[name].decode().numel() for name, each in found.items()}


@remembered
def by_curvature(asked: Question) -> tuple[float, ...]:
    """Half the sum of curvature times squared error, weight by weight, in the order of `costs`."""
    curves = curvature.diagonal_of(asked.bundle, asked.samples, asked.count, asked.seed)
    found = []
    for name in asked.names:
        param = asked.bundle.params[name]
        errors = (asked.how.param(param, width).decode() - param.decode() for width in asked.bits)
        found += [float((curves[name].double() * error.double().square()).sum()) / 2 for error in errors]
    return tuple(found)


@remembered
def alone(asked: Question) -> pd.DataFrame:
    """One layer rounded at a time, in the order of `costs`: columns kl (nat) and accuracy (a share).

    KL is from the outputs of the bundle as it is to those of the rounded one; `accuracy` is how many more of
    the samples are wrong. Only what lies behind the rounded layer is worked out anew.
    """
    part = asked.samples.stratified(asked.count, asked.seed)
    before, trace = incremental.logits(asked.bundle, part)
    right, rows = before.argmax(1) == part.labels, []
    for name in asked.names:
        for width in asked.bits:
            if width == AS_IT_IS:
                rows.append((0.0, 0.0))
                continue
            now = rounded(asked.bundle, ((name, width),), asked.how)
            after = incremental.logits(now, part, trace, keep=False)[0]
            lost = int(right.sum()) - int((after.argmax(1) == part.labels).sum())
            rows.append((measure.kl(before, after).value, lost / part.labels.numel()))
    return pd.DataFrame(rows, columns=("kl", "accuracy"))
