"""What formats share that hold integer codes with a scale and a zero point for each tile of a granularity."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from engine.tensor import codes
from engine.tensor.codes import Ints
from engine.tensor.formats.bits import huffman_stream_bits, whole_bytes
from engine.tensor.formats.dense import Dense
from engine.tensor.formats.numbers import (
    FLOATS,
    check_scales,
    integers,
    numbers,
    read_floats,
    row_length,
    write_floats,
)
from engine.tensor.granularity import TENSOR, Granularity
from engine.types import FormatError, Param, Section


@dataclass(frozen=True, eq=False)
class Tiled(Param):
    """`codes` has the parameter's shape (int32), `bits` is the width of one.

    `scale` (float32) and `zero` (int32) are flat, one for each tile of the granularity.
    """

    widest: ClassVar[int]  # bits that a code may have
    codes: Tensor
    scale: Tensor
    zero: Tensor
    bits: int
    granularity: Granularity = TENSOR

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scale": self.scale, "zero": self.zero}

    def settings(self) -> list[Any]:
        return [self.bits, self.granularity.data]

    def take(self, axis: int, stays: Tensor) -> Param:
        """Where tiles would break the values are kept as 32-bit floats."""
        cut = [self.granularity.take(each, self.shape, axis, stays) for each in (self.scale, self.zero)]
        scale, zero = cut
        if scale is None or zero is None:
            return Dense(self.decode().index_select(axis, stays))
        return replace(self, codes=self.codes.index_select(axis, stays), scale=scale, zero=zero)

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return whole_bytes(self.codes.numel() * self.width()) + self.bits_beside()

    def huffman_bits(self) -> int:
        return huffman_stream_bits(self.codes, self.width()) + self.bits_beside()

    @abstractmethod
    def width(self) -> int:
        """Bits of a code that is stored, exact zeros included."""

    @abstractmethod
    def bits_beside(self) -> int:
        """Bits of all scales and zero points."""

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        wanted = self.granularity.count(repr(name), self.shape)
        if self.scale.shape != (wanted,) or self.zero.shape != (wanted,):
            raise FormatError(
                f"{name!r} has scales {tuple(self.scale.shape)}, zero points {tuple(self.zero.shape)}: "
                f"codes {self.shape} with {self.granularity} need {wanted}"
            )

    def written(self) -> tuple[str, bytes]:
        """The codes as bytes, and how to read them."""
        return codes.encode(numbers(self.codes), row_length(self.shape))

    @classmethod
    def read(cls, coding: str, content: bytes, shape: list[int], zero: Tensor, tiles: Granularity) -> Ints:
        """What was `written`, flat; `zero` are the zero points."""
        return codes.decode(coding, content, math.prod(shape))

    def sections(self) -> list[Section]:
        return [
            ("codes", *self.written()),
            write_floats("scales", numbers(self.scale)),
            ("zero points", *codes.encode(numbers(self.zero))),
        ]

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        return Granularity.from_data(settings[-1]).count("a tensor", shape)

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Self:
        match settings, codings:
            case [bits, said], [coding, floats, zeros] if floats in FLOATS:
                granularity = Granularity.from_data(said)
            case _:
                raise cls.unknown(name, codings)
        if type(bits) is not int or not 1 <= bits <= cls.widest:
            raise FormatError(
                f"the codes of {name!r} have {ascii(bits)[:40]} bits: allowed are 1 to {cls.widest}"
            )
        tiles, content = granularity.count(repr(name), shape), next(cuts)
        scale = read_floats(floats, next(cuts), tiles)
        check_scales(name, scale)
        zero = integers(codes.decode(zeros, next(cuts), tiles))
        flat = cls.read(coding, content, shape, zero, granularity)
        found = cls(integers(flat).reshape(shape), scale, zero, bits, granularity)
        found.check(name)
        return found
