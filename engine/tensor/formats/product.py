"""Product codebook: sub-vectors of a layer share a table, and each has the number of its entry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, huffman_stream_bits, whole_bytes
from engine.tensor.formats.dense import Dense
from engine.tensor.formats.numbers import FLOATS, integers, numbers, read_floats, row_length, write_floats
from engine.types import FormatError, Param, Section

NO_ZEROS = torch.zeros(0, dtype=torch.int32)


def sub_vectors(values: Tensor, length: int) -> Tensor:
    """The rows of a weight (outputs, everything else) cut into pieces: (sub-vectors, length), row by row.

    The last piece of a row is filled up with zeros.

    >>> sub_vectors(torch.tensor([[1, 2, 3], [4, 5, 6]]), 2).tolist()
    [[1, 2], [3, 0], [4, 5], [6, 0]]
    """
    rows = values.reshape(-1, row_length(tuple(values.shape)))
    return F.pad(rows, (0, -rows.shape[1] % length)).reshape(-1, length)


@dataclass(frozen=True, eq=False)
class Product(Param):
    """A parameter whose sub-vectors are shared: sub-vector = table[code], but for exact zeros.

    `codes` int32 (sub-vectors,), in the order of `sub_vectors`; `table` float32 (entries, length); `size` is
    the parameter's shape. `zero` int32 has that shape and is 1 where a weight is exactly zero, or it is
    empty where none is. A sub-vector of zeros alone has code 0, which no file holds.
    (Gong 2014, Compressing Deep Convolutional Networks using Vector Quantization, arXiv 1412.6115)

    >>> table = torch.tensor([[0.5, 2.0], [1.0, -1.0]])
    >>> Product(torch.tensor([1, 0], dtype=torch.int32), table, (1, 4)).decode().tolist()
    [[1.0, -1.0, 0.5, 2.0]]
    """

    kind: ClassVar[str] = "product"
    codes: Tensor
    table: Tensor
    size: tuple[int, ...]
    zero: Tensor = NO_ZEROS

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size

    @property
    def length(self) -> int:
        """Weights of a sub-vector."""
        return self.table.shape[1]

    @property
    def per_row(self) -> int:
        """Sub-vectors of a row."""
        return -(-row_length(self.size) // self.length)

    def decode(self) -> Tensor:
        rows = self.table.index_select(0, self.codes).reshape(_rows(self.size), self.per_row * self.length)
        values = rows[:, : row_length(self.size)].reshape(self.size)
        return torch.where(self.zero == 1, 0.0, values) if self._is_masked else values

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "table": self.table, "zero": self.zero}

    def settings(self) -> list[Any]:
        return [*self.table.shape, self._is_masked]

    @property
    def _is_masked(self) -> bool:
        return self.zero.numel() > 0

    @property
    def coded(self) -> Tensor:
        """Which sub-vectors need a code (sub-vectors,): those that are not zeros alone."""
        if not self._is_masked:
            return torch.ones(len(self.codes), dtype=torch.bool)
        return sub_vectors(1 - self.zero, self.length).any(1)

    # -------------------------------------------------------- changed

    def with_zeros(self, kept: Tensor) -> Product:
        gone = ~kept | (self.zero == 1) if self._is_masked else ~kept
        return replace(self, zero=gone.to(torch.int32))._without_unused_codes()

    def take(self, axis: int, stays: Tensor) -> Param:
        """Where a cut goes through sub-vectors the values are kept as 32-bit floats."""
        if len(self.size) < 2:
            return Dense(self.decode().index_select(axis, stays))
        table = self.codes.reshape(self.size[0], -1)
        size = (*self.size[:axis], len(stays), *self.size[axis + 1 :])
        if axis == 0:
            left = table.index_select(0, stays)
        else:
            columns = torch.arange(row_length(self.size)).reshape(1, *self.size[1:])
            columns = columns.index_select(axis, stays).flatten()
            firsts = columns[:: self.length]
            unbroken = (firsts[:, None] + torch.arange(self.length)).flatten()[: len(columns)]
            if bool((firsts % self.length).any()) or not torch.equal(columns, unbroken):
                return Dense(self.decode().index_select(axis, stays))
            left = table.index_select(1, firsts // self.length)
        zero = self.zero.index_select(axis, stays) if self._is_masked else self.zero
        return Product(left.flatten(), self.table, size, zero)._without_unused_codes()

    def _without_unused_codes(self) -> Product:
        return replace(self, codes=torch.where(self.coded, self.codes, 0))

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return whole_bytes(int(self.coded.sum()) * codes.width(len(self.table))) + self._rest()

    def huffman_bits(self) -> int:
        return huffman_stream_bits(self.codes[self.coded], codes.width(len(self.table))) + self._rest()

    def entropy_bits(self) -> float:
        streams = (self.codes[self.coded], self.zero)
        return sum(codes.ideal_bits(numbers(each)) for each in streams) + FLOAT * self.table.numel()

    def _rest(self) -> int:
        return FLOAT * self.table.numel() + whole_bytes(self.zero.numel())

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        if self.table.dim() != 2 or not self.table.numel():
            raise FormatError(f"{name!r} needs a table of entries and their numbers, not {self.table.shape}")
        wanted = _rows(self.size) * self.per_row
        if self.codes.shape != (wanted,) or self.zero.shape not in ((0,), self.size):
            raise FormatError(
                f"{name!r} of shape {self.size} needs {wanted} codes of sub-vectors of {self.length}, and a "
                "mark for each weight or none"
            )
        if wanted and not 0 <= int(self.codes.min()) <= int(self.codes.max()) < len(self.table):
            raise FormatError(f"a code of {name!r} is outside of its table of {len(self.table)} entries")
        if self._is_masked and not 0 <= int(self.zero.min()) <= int(self.zero.max()) <= 1:
            raise FormatError(f"a mark of {name!r} says neither that a weight is zero nor that it is not")
        if bool(self.codes[~self.coded].any()):
            raise FormatError(f"a sub-vector of {name!r} that is zero has a code: allowed is 0")

    def sections(self) -> list[Section]:
        marks: list[Section] = []
        if self._is_masked:
            marks = [("zeros", *codes.encode(numbers(self.zero), row_length(self.size)))]
        used, table = numbers(self.codes[self.coded]), numbers(self.table)
        columns = 0 if self._is_masked else self.per_row
        return [*marks, ("codes", *codes.encode(used, columns)), write_floats("table", table)]

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        entries, length, masked = _described(settings)
        return entries * length + math.prod(shape) * masked

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Product:
        entries, length, masked = _described(settings)
        match masked, codings:
            case [False, [coding, floats]] if floats in FLOATS:
                zero = NO_ZEROS
            case [True, [marks, coding, floats]] if floats in FLOATS:
                zero = integers(codes.decode(marks, next(cuts), math.prod(shape))).reshape(shape)
            case _:
                raise cls.unknown(name, codings)
        size = tuple(shape)
        blank = torch.zeros(_rows(size) * -(-row_length(size) // length), dtype=torch.int32)
        found = cls(blank, torch.zeros(1, length), size, zero)
        used = found.coded
        blank[used] = integers(codes.decode(coding, next(cuts), int(used.sum())))
        found = replace(found, table=read_floats(floats, next(cuts), entries * length).reshape(-1, length))
        found.check(name)
        return found


def _rows(size: tuple[int, ...]) -> int:
    return math.prod(size) // max(row_length(size), 1)


def _described(settings: list[Any]) -> tuple[int, int, bool]:
    """Entries, weights of a sub-vector, and whether there are exact zeros."""
    match settings:
        case [int() as entries, int() as length, bool() as masked] if min(entries, length) > 0:
            return entries, length, masked
    raise FormatError(
        f"a product codebook is described as {ascii(settings)[:60]}: allowed are entries and weights of a "
        "sub-vector, from 1, and whether there are zeros"
    )
