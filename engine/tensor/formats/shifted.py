"""Integer codes with a scale for each tile, and a zero point that may lie between two codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT
from engine.tensor.formats.numbers import numbers
from engine.tensor.formats.tiled import Tiled
from engine.types import FormatError

POINT = 8  # bits of a zero point


def parts_of_step(bits: int) -> int:
    """Into how many parts zero points cut a step, so that they span the codes in 8 bits.

    >>> parts_of_step(2), parts_of_step(8)
    (64, 1)
    """
    return 1 << (POINT - bits)


@dataclass(frozen=True, eq=False)
class Shifted(Tiled):
    """A parameter with codes from 0 to 2^bits - 1: value = scale * (code - zero / 2^(8 - bits)).

    `codes` has the parameter's shape (int32); 2^bits is an exact zero, where there are any. `scale`
    (float32) and `zero` (int32, 0 to 255) are flat, one for each tile of the granularity. Bits are 1 to 8.

    >>> half = torch.tensor([160], dtype=torch.int32)  # 2.5 of four codes
    >>> Shifted(torch.tensor([3, 2, 4]), torch.tensor([2.0]), half, 2).decode().tolist()
    [1.0, -1.0, 0.0]
    """

    kind: ClassVar[str] = "shifted"
    widest: ClassVar[int] = POINT

    @property
    def empty(self) -> int:
        """The code of an exact zero."""
        return 1 << self.bits

    def decode(self) -> Tensor:
        scale, zero = (self.granularity.spread(each, self.shape) for each in (self.scale, self.zero))
        matrix = self.granularity.matrix(self.codes)
        values = (matrix - zero.to(torch.float32) / parts_of_step(self.bits)) * scale
        return self.granularity.back(torch.where(matrix == self.empty, 0.0, values), self.shape)

    def with_zeros(self, kept: Tensor) -> Shifted:
        return replace(self, codes=torch.where(kept, self.codes, self.empty))

    # -------------------------------------------------------- bits

    def entropy_bits(self) -> float:
        points = codes.ideal_bits(numbers(self.zero))
        return codes.ideal_bits(numbers(self.codes)) + points + FLOAT * self.scale.numel()

    def width(self) -> int:
        """One bit more where there are exact zeros."""
        return self.bits + bool((self.codes == self.empty).any())

    def bits_beside(self) -> int:
        return (FLOAT + POINT) * self.scale.numel()

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        super().check(name)
        for what, held, top in (("code", self.codes, self.empty), ("zero point", self.zero, 255)):
            if held.numel() and not 0 <= int(held.min()) <= int(held.max()) <= top:
                raise FormatError(
                    f"a {what} of {name!r} is {int(held.min())} to {int(held.max())}: allowed are 0 to {top}"
                )
