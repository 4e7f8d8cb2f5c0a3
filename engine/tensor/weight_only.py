"""Ways to round weights alone to a few bits, in groups of neighbours with a scale each, and side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from engine.tensor import awq, gptq, grids, hqq
from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid, Levels, Scaled
from engine.tensor.granularity import Granularity, per_group
from engine.types import Param

METHODS: Mapping[str, str] = {"rtn": "nearest", "gptq": "GPTQ", "awq": "AWQ", "hqq": "HQQ", "nf4": "NF4"}
FITTED = ("gptq", "awq")  # which look at what enters a layer
NF4 = 4  # bits of its codes, whatever is asked for
COLUMNS = ("method", "bits", "group", "bits_per_weight", "bytes", "error")


@dataclass(frozen=True)
class Way:
    """How weights are rounded: a method with its settings."""

    method: str
    bits: int
    group: int
    range: str = "minmax"
    damping: float = 0.01
    act_order: bool = True
    p: float = 0.7

    @property
    def granularity(self) -> Granularity:
        return per_group(self.group)

    def nearest(self, values: Tensor) -> AffineGrid:
        """The asymmetric grid of nearest levels."""
        return grids.quantize(values, self.bits, False, self.granularity, self.range)

    def alone(self, values: Tensor) -> Param:
        """Rounded without data; methods that want rows give nearest levels."""
        if self.method == "hqq":
            return hqq.quantized(values, self.bits, self.granularity, self.range, self.p)
        if self.method == "nf4":
            return Levels.of(values, "nf4", self.granularity)
        return self.nearest(values)

    def fitted(self, values: Tensor, rows: Tensor) -> Param:
        """Rounded for what enters the layer: rows (points, inputs * kernel), finite."""
        if self.method == "gptq":
            return self._carried(values, rows)
        if self.method == "awq":
            return scaled(values, self.searched([values], rows).factor, self)
        return self.alone(values)

    def searched(self, weights: Sequence[Tensor], rows: Tensor) -> awq.Found:
        """AWQ's factors for weights that read the same rows."""
        return awq.searched(weights, rows, lambda weight: self.nearest(weight).decode())

    def _carried(self, values: Tensor, rows: Tensor) -> AffineGrid:
        grid = self.nearest(values)
        scale, zero = (grid.granularity.over(x, grid.shape).flatten(1) for x in (grid.scale, grid.zero))
        curved = gptq.hessian(rows, self.damping)
        ends = code_range(self.bits, False)
        codes = gptq.rounded(values.flatten(1), scale, zero, ends, curved, self.act_order)
        return replace(grid, codes=codes.reshape(grid.shape))


def scaled(values: Tensor, factor: Tensor, way: Way) -> Param:
    """Values times factors on the grid of nearest levels, and what divides them again, unless all are 1."""
    if bool((factor == 1).all()):
        return way.nearest(values)
    inverse = (1 / factor).to(torch.bfloat16).float()  # which they were made from
    return Scaled(way.nearest(values * awq.over(factor, values)), inverse)


def compared(values: Tensor, fit: Tensor | None, check: Tensor | None, ways: Sequence[Way]) -> pd.DataFrame:
    """Output error of one layer under each way: a row each, columns COLUMNS.

    Fitted on rows `fit`, and measured on the rows `check`: the norm of (outputs - those of the values) over
    the norm of these. Without rows it is the error of the values themselves, over their norm.
    `bits_per_weight` and `bytes` count codes at fixed width, scales, zero points and factors.
    """
    weight = values.flatten(1)
    goal = weight if check is None else check @ weight.T
    norm = float(goal.norm())
    table = []
    for way in ways:
        param = way.alone(values) if fit is None else way.fitted(values, fit)
        decoded = param.decode().flatten(1)
        off = float(((decoded if check is None else check @ decoded.T) - goal).norm())
        bits, total = NF4 if way.method == "nf4" else way.bits, param.fixed_bits()
        shares = (total / max(values.numel(), 1), total // 8, off / norm if norm > 0 else 0.0)
        table.append((way.method, bits, way.group, *shares))
    return pd.DataFrame(table, columns=list(COLUMNS))


def winner(table: pd.DataFrame) -> str:
    """The method of least error in a table of `compared`; of equals the one of fewer bits, then the first.

    >>> rows = [("rtn", 4, 64, 4.5, 9, 0.25), ("gptq", 4, 64, 4.5, 9, 0.125)]
    >>> winner(pd.DataFrame(rows, columns=list(COLUMNS)))
    'gptq'
    """
    return str(table.sort_values(["error", "bits_per_weight"], kind="stable")["method"].iloc[0])
