"""Whole codes with bits, a scale and an offset of its own for each row of (outputs, all the rest)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, huffman_stream_bits, whole_bytes
from engine.tensor.formats.numbers import (
    FLOATS,
    check_scales,
    integers,
    numbers,
    read_floats,
    row_length,
    write_floats,
)
from engine.types import FormatError, Param, Section

NARROWEST, WIDEST = 2, 16  # bits of a code
WIDTH = 4  # bits that name a row's bits


@dataclass(frozen=True, eq=False)
class Rows(Param):
    """A parameter with bits for each row: value = scale * code + offset, or exactly zero.

    `codes` has the parameter's shape (int32); in a row of b bits they go from -(2^(b-1)-1) to 2^(b-1)-1,
    and -2^(b-1) is an exact zero. `bits` (int32), `scale` and `offset` (float32) have one number a row.

    >>> two = torch.tensor([2], dtype=torch.int32)
    >>> Rows(torch.tensor([[1, 0, -2]]), two, torch.tensor([3.0]), torch.tensor([0.5])).decode().tolist()
    [[3.5, 0.5, 0.0]]
    """

    kind: ClassVar[str] = "rows"
    codes: Tensor
    bits: Tensor
    scale: Tensor
    offset: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def empty(self) -> Tensor:
        """The code of an exact zero of each row, with as many dimensions as the codes."""
        return self._over(-torch.bitwise_left_shift(torch.ones_like(self.bits), self.bits - 1))

    def _over(self, each: Tensor) -> Tensor:
        return each.reshape(-1, *[1] * (self.codes.dim() - 1))

    def decode(self) -> Tensor:
        values = self.codes.to(torch.float32) * self._over(self.scale) + self._over(self.offset)
        return torch.where(self.codes == self.empty, 0.0, values)

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "bits": self.bits, "scale": self.scale, "offset": self.offset}

    def with_zeros(self, kept: Tensor) -> Rows:
        zero = torch.where(self._over(self.offset) == 0, 0, self.empty)
        return replace(self, codes=torch.where(kept, self.codes, zero.to(self.codes.dtype)))

    def take(self, axis: int, stays: Tensor) -> Rows:
        codes = self.codes.index_select(axis, stays)
        if axis:
            return replace(self, codes=codes)
        return Rows(codes, *(each.index_select(0, stays) for each in (self.bits, self.scale, self.offset)))

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return whole_bytes(int(self.bits.sum()) * row_length(self.shape)) + self._rest()

    def huffman_bits(self) -> int:
        streams = ((huffman_stream_bits(part, width), part, width) for width, part in self._by_width())
        return (
            sum(min(bits, whole_bytes(part.numel() * width)) for bits, part, width in streams) + self._rest()
        )

    def entropy_bits(self) -> float:
        streams = sum(codes.ideal_bits(numbers(part)) for _, part in self._by_width())
        floats_beside = FLOAT * len(self.scale) * (1 + self._moved)
        return streams + codes.ideal_bits(numbers(self.bits)) + floats_beside

    def _rest(self) -> int:
        return whole_bytes(WIDTH * len(self.bits)) + FLOAT * len(self.scale) * (1 + self._moved)

    @property
    def _moved(self) -> bool:
        return bool((self.offset != 0).any())

    def _by_width(self) -> list[tuple[int, Tensor]]:
        """The codes of all rows of each width, narrow ones first."""
        widths: list[int] = sorted(set(self.bits.tolist()))
        return [(width, self.codes[self.bits == width]) for width in widths]

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        rows = (self.shape[0],) if self.shape else ()
        if not rows or any(each.shape != rows for each in (self.bits, self.scale, self.offset)):
            raise FormatError(
                f"{name!r} of shape {self.shape} needs bits, a scale and an offset for each row"
            )
        top = -self.empty - 1
        if bool(((self.codes < self.empty) | (self.codes > top)).any()):
            raise FormatError(f"a code of {name!r} does not fit the bits of its row")

    def sections(self) -> list[Section]:
        columns = row_length(self.shape)
        written: list[Section] = [
            ("bits", *codes.encode(numbers(self.bits))),
            write_floats("scales", numbers(self.scale)),
        ]
        if self._moved:
            written.append(write_floats("offsets", numbers(self.offset)))
        streams = ((width, codes.encode(numbers(part), columns)) for width, part in self._by_width())
        return [*written, *((f"codes of {width} bits", *coded) for width, coded in streams)]

    def settings(self) -> list[Any]:
        return [self._moved]

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        return 3 * (shape[0] if shape else 1)

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Rows:
        match settings, codings:
            case [False], [first, scales, *streams] if shape and scales in FLOATS:
                moved, offsets = False, ""
            case [True], [first, scales, offsets, *streams] if shape and {scales, offsets} <= {*FLOATS}:
                moved = True
            case _:
                raise cls.unknown(name, codings)
        rows = shape[0]
        bits = integers(codes.decode(first, next(cuts), rows))
        scale = read_floats(scales, next(cuts), rows)
        offset = read_floats(offsets, next(cuts), rows) if moved else torch.zeros(rows)
        if rows and not NARROWEST <= int(bits.min()) <= int(bits.max()) <= WIDEST:
            raise FormatError(
                f"rows of {name!r} have {int(bits.min())} to {int(bits.max())} bits: allowed are "
                f"{NARROWEST} to {WIDEST}"
            )
        check_scales(name, scale)
        found = torch.zeros(rows, math.prod(shape[1:]), dtype=torch.int32)
        widths: list[int] = sorted(set(bits.tolist()))
        if len(widths) != len(streams):
            raise cls.unknown(name, codings)
        for width, coding in zip(widths, streams, strict=True):
            here = bits == width
            flat = codes.decode(coding, next(cuts), int(here.sum()) * found.shape[1])
            found[here] = integers(flat).reshape(-1, found.shape[1])
        param = cls(found.reshape(shape), bits, scale, offset)
        param.check(name)
        return param
