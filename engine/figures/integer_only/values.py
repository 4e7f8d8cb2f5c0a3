"""What passes between the nodes of a model on integers: 8-bit codes and 32-bit sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.tensor import fixed_point
from engine.types import SlimscopeError

FINE = 29  # bits of each term of a residual sum
TOP = 255  # of unsigned codes


@dataclass(frozen=True, eq=False)
class Codes:
    """Integers (n, ...) that stand for scale * (codes - zero)."""

    values: Tensor
    scale: Tensor  # (), float64
    zero: int

    def over(self, values: Tensor) -> Codes:
        return Codes(values, self.scale, self.zero)

    def sums(self) -> Sums:
        """The same numbers as sums of one term."""
        return Sums(self.values - self.zero, self.scale, "", max(self.zero, TOP - self.zero))


@dataclass(frozen=True, eq=False)
class Sums:
    """32-bit sums (n, outputs, ...) behind a layer; scales () or (outputs,), float64.

    No input can bring them further from zero than `reach`.
    """

    values: Tensor
    scale: Tensor
    layer: str
    reach: int

    def each(self) -> Tensor:
        """The scales, shaped to go over the sums."""
        return self.scale.view(-1, *[1] * (self.values.dim() - 2)) if self.scale.dim() else self.scale


def refused(title: str, what: str, behind: str = "") -> SlimscopeError:
    """What is raised for a model with something that is not done.

    >>> str(refused("net", "Softmax", "fc")).partition(".")[0]
    'net has Softmax behind fc: that is not run on integers here'
    """
    where = f" behind {behind}" if behind else ""
    return SlimscopeError(
        f"{title} has {what}{where}: that is not run on integers here. Done are linear layers and "
        "convolutions with batch-norm, ReLU, pooling, flattening and residual sums between them"
    )


def on_one_scale(x: Sums, real: float | None = None, bits: int = FINE) -> Sums:
    """Sums of all outputs on one scale, so fine that nothing up to `real` leaves these bits."""
    real = float((x.scale * x.reach).max()) if real is None else real
    scale = torch.tensor((real or 1.0) / 2**bits, dtype=torch.float64)
    multiplier = fixed_point.fixed_multiplier(x.each() / scale)
    return Sums(fixed_point.rescaled(x.values, *multiplier), scale, "", 2**bits)


def added(one: Sums, other: Sums) -> Sums:
    """A residual sum: both are brought to one fine scale first, where 32 bits hold any sum."""
    real = max(float((each.scale * each.reach).max()) for each in (one, other))
    both = [on_one_scale(each, real) for each in (one, other)]
    return replace(both[0], values=both[0].values + both[1].values, reach=2 * both[0].reach)


def averaged(x: Sums, axes: Sequence[int], keep: bool) -> Sums:
    """An average as a sum on a scale that is finer by the number of places."""
    inside = [axis % x.values.dim() for axis in axes]
    if min(inside) < 2:
        raise refused("the model", "an average over samples or channels")
    places = math.prod(x.values.shape[axis] for axis in inside)
    if x.reach * places >= fixed_point.WORD:  # coarser first, so that 32 bits hold any sum
        x = on_one_scale(x, bits=FINE - places.bit_length())
    return Sums(x.values.sum(inside, keepdim=keep), x.scale / places, x.layer, x.reach * places)
