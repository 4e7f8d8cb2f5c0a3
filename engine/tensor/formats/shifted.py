"""Integer codes with a scale for each tile, and a zero point that may lie between two codes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, huffman_stream_bits, whole_bytes
from engine.tensor.formats.dense import Dense
from engine.tensor.formats.numbers import FLOATS, integers, numbers, read_floats, row_length, write_floats
from engine.tensor.granularity import TENSOR, Granularity
from engine.types import FormatError, Param, Section

POINT = 8  # bits of a zero point


def parts_of_step(bits: int) -> int:
    """Into how many parts zero points cut a step, so that they span the codes in 8 bits.

    >>> parts_of_step(2), parts_of_step(8)
    (64, 1)
    """
    return 1 << (POINT - bits)


@dataclass(frozen=True, eq=False)
class Shifted(Param):
    """A parameter with codes from 0 to 2^bits - 1: value = scale * (code - zero / 2^(8 - bits)).

    `codes` has the parameter's shape (int32); 2^bits is an exact zero, where there are any. `scale`
    (float32) and `zero` (int32, 0 to 255) are flat, one for each tile of the granularity. Bits are 1 to 8.

    >>> half = torch.tensor([160], dtype=torch.int32)  # 2.5 of four codes
    >>> Shifted(torch.tensor([3, 2, 4]), torch.tensor([2.0]), half, 2).decode().tolist()
    [1.0, -1.0, 0.0]
    """

    kind: ClassVar[str] = "shifted"
    codes: Tensor
    scale: Tensor
    zero: Tensor
    bits: int
    granularity: Granularity = TENSOR

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def empty(self) -> int:
        """The code of an exact zero."""
        return 1 << self.bits

    def decode(self) -> Tensor:
        scale, zero = (self.granularity.spread(each, self.shape) for each in (self.scale, self.zero))
        matrix = self.granularity.matrix(self.codes)
        values = (matrix - zero.to(torch.float32) / parts_of_step(self.bits)) * scale
        return self.granularity.back(torch.where(matrix == self.empty, 0.0, values), self.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scale": self.scale, "zero": self.zero}

    def settings(self) -> list[Any]:
        return [self.bits, self.granularity.data]

    def with_zeros(self, kept: Tensor) -> Shifted:
        return replace(self, codes=torch.where(kept, self.codes, self.empty))

    def take(self, axis: int, stays: Tensor) -> Param:
        """Where tiles would break the values are kept as 32-bit floats."""
        cut = [self.granularity.take(each, self.shape, axis, stays) for each in (self.scale, self.zero)]
        scale, zero = cut
        if scale is None or zero is None:
            return Dense(self.decode().index_select(axis, stays))
        return replace(self, codes=self.codes.index_select(axis, stays), scale=scale, zero=zero)

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return whole_bytes(self.codes.numel() * self._width()) + self._rest()

    def huffman_bits(self) -> int:
        return huffman_stream_bits(self.codes, self._width()) + self._rest()

    def entropy_bits(self) -> float:
        points = codes.ideal_bits(numbers(self.zero))
        return codes.ideal_bits(numbers(self.codes)) + points + FLOAT * self.scale.numel()

    def _width(self) -> int:
        """One bit more where there are exact zeros."""
        return self.bits + bool((self.codes == self.empty).any())

    def _rest(self) -> int:
        return (FLOAT + POINT) * self.scale.numel()

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        wanted = self.granularity.count(repr(name), self.shape)
        if self.scale.shape != (wanted,) or self.zero.shape != (wanted,):
            raise FormatError(
                f"{name!r} has scales {tuple(self.scale.shape)}, zero points {tuple(self.zero.shape)}: "
                f"codes {self.shape} with {self.granularity} need {wanted}"
            )
        for what, held, top in (("code", self.codes, self.empty), ("zero point", self.zero, 255)):
            if held.numel() and not 0 <= int(held.min()) <= int(held.max()) <= top:
                raise FormatError(
                    f"a {what} of {name!r} is {int(held.min())} to {int(held.max())}: allowed are 0 to {top}"
                )

    def sections(self) -> list[Section]:
        return [
            ("codes", *codes.encode(numbers(self.codes), row_length(self.shape))),
            write_floats("scales", numbers(self.scale)),
            ("zero points", *codes.encode(numbers(self.zero))),
        ]

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        return Granularity.from_data(settings[-1]).count("a tensor", shape)

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Shifted:
        match settings, codings:
            case [bits, said], [coding, floats, zeros] if coding in codes.CODERS and floats in FLOATS:
                granularity = Granularity.from_data(said)
            case _:
                raise cls.unknown(name, codings)
        if type(bits) is not int or not 1 <= bits <= POINT:
            raise FormatError(f"the codes of {name!r} have {ascii(bits)[:40]} bits: allowed are 1 to {POINT}")
        scales = granularity.count(repr(name), shape)
        flat = codes.decode(coding, next(cuts), math.prod(shape))
        scale = read_floats(floats, next(cuts), scales)
        if bool((scale <= 0).any()):
            raise FormatError(f"a scale of {name!r} is {float(scale.min()):g}: allowed are numbers above 0")
        zero = integers(codes.decode(zeros, next(cuts), scales))
        found = cls(integers(flat).reshape(shape), scale, zero, bits, granularity)
        found.check(name)
        return found
