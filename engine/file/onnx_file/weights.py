"""A weight on an affine grid as 8-bit codes with a zero point, for ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.tensor.formats import AffineGrid
from engine.types import Param

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Weight:
    """value = scale * steps, with one scale or one for each output (the first axis)."""

    name: str
    steps: Integers
    scale: Floats

    def spread(self) -> Weight:
        """The same values in finer steps, up to 8 bits: biases on the grid of products are rounded less."""
        largest = max(int(np.abs(self.steps).max(initial=0)), 1)
        times = 2 ** max(int(np.log2(127 / largest)), 0)
        return Weight(self.name, self.steps * times, self.scale / np.float32(times))

    def coded(self, unsigned: bool, per_output: bool) -> tuple[Integers, Integers] | None:
        """(8-bit codes, zero point) with steps = codes - zero; None where one zero point does not reach."""
        low, high = int(self.steps.min(initial=0)), int(self.steps.max(initial=0))
        lowest, kind = (0, np.uint8) if unsigned else (-128, np.int8)
        if low >= -128 and high <= 127:
            zero = np.array(lowest + 128)
        elif high - low <= 255:
            zero = np.array(lowest - low)
        elif per_output and self.scale.ndim:
            rows = self.steps.reshape(len(self.steps), -1)
            lows = rows.min(1).clip(max=0)
            if (rows.max(1) - lows).max() > 255:  # codes of a strange file
                return None
            zero = lowest - lows
        else:
            return None
        return (self.steps + over(zero, self.steps.ndim)).astype(kind), zero.astype(kind)


def over(values: NDArray[Any], dims: int) -> NDArray[Any]:
    """One value for each output, shaped to go over a weight."""
    return values.reshape(-1, *[1] * (dims - 1)) if values.ndim else values


def weight_of(name: str, param: Param | None) -> Weight | None:
    """A weight of at most 8 bits with one scale, or one for each output."""
    if (
        not isinstance(param, AffineGrid)
        or param.bits > 8
        or param.granularity.data not in (["tensor"], ["axis", 0])
    ):
        return None
    steps = param.codes - param.granularity.over(param.zero, param.shape)
    scale = param.scale if param.granularity.kind == "axis" else param.scale[0]
    return Weight(name, steps.numpy(), scale.numpy())
