"""Shared values: a table of floats, and for each weight the number of its entry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, huffman_stream_bits, whole_bytes
from engine.tensor.formats.numbers import FLOATS, integers, numbers, read_floats, row_length, write_floats
from engine.tensor.formats.through import StraightThrough, through
from engine.types import FormatError, Param, Section


@dataclass(frozen=True, eq=False)
class Codebook(Param):
    """A parameter whose values are shared: value = table[code]; codes int32, table float32.

    >>> Codebook(torch.tensor([1, 0, 1]), torch.tensor([0.5, -2.0])).decode().tolist()
    [-2.0, 0.5, -2.0]
    """

    kind: ClassVar[str] = "book"
    codes: Tensor
    table: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def decode(self) -> Tensor:
        return self.table[self.codes.long()]

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "table": self.table}

    def settings(self) -> list[Any]:
        return [len(self.table)]

    def with_zeros(self, kept: Tensor) -> Codebook:
        """The table gets an entry 0 where it has none."""
        table, code = _with_zero(self.table)
        return Codebook(torch.where(kept, self.codes, code), table)

    def take(self, axis: int, stays: Tensor) -> Codebook:
        return Codebook(self.codes.index_select(axis, stays), self.table)

    def straight_through(self) -> StraightThrough:
        return Entries(self)

    def fixed_bits(self) -> int:
        return whole_bytes(self.codes.numel() * codes.width(len(self.table))) + FLOAT * len(self.table)

    def huffman_bits(self) -> int:
        width = codes.width(len(self.table))
        return huffman_stream_bits(self.codes, width) + FLOAT * len(self.table)

    def entropy_bits(self) -> float:
        return codes.ideal_bits(self.codes.reshape(-1).numpy()) + FLOAT * len(self.table)

    def check(self, name: str) -> None:
        used = self.codes.numel() > 0
        inside = not used or 0 <= int(self.codes.min()) <= int(self.codes.max()) < len(self.table)
        if self.table.dim() != 1 or not inside:
            raise FormatError(f"a code of {name!r} is outside of its table of {len(self.table)} values")

    def sections(self) -> list[Section]:
        coded = codes.encode(numbers(self.codes), row_length(self.shape))
        return [("codes", *coded), write_floats("table", numbers(self.table))]

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        return settings[-1]  # type: ignore[no-any-return]

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Codebook:
        match settings, codings:
            case [length], [coding, floats] if floats in FLOATS:
                flat = codes.decode(coding, next(cuts), math.prod(shape))
                book = cls(integers(flat).reshape(shape), read_floats(floats, next(cuts), length))
                book.check(name)
                return book
        raise cls.unknown(name, codings)


def _with_zero(table: Tensor) -> tuple[Tensor, int]:
    """A table that holds zero, and where."""
    at = (table == 0).nonzero().flatten()
    if len(at):
        return table, int(at[0])
    return torch.cat([table, table.new_zeros(1)]), len(table)


class Entries(StraightThrough):
    """Each weight goes to its nearest entry; an entry's gradient is the sum of its weights' (Han 2016).

    (arXiv 1510.00149) An entry that is exactly zero stays zero: it is what pruned weights have.
    """

    def __init__(self, book: Codebook) -> None:
        super().__init__()
        self.table = nn.Parameter(book.table.clone())
        self.register_buffer("learns", book.table != 0)

    def forward(self, latent: Tensor) -> Tensor:
        entries = torch.where(self.get_buffer("learns"), self.table, self.table.detach())
        return through(latent, entries[self._nearest(latent)])

    def encode(self, latent: Tensor) -> Codebook:
        return Codebook(self._nearest(latent).to(torch.int32), self.table.detach().clone())

    def _nearest(self, latent: Tensor) -> Tensor:
        rising, order = self.table.detach().double().sort(stable=True)
        middles = (rising[1:] + rising[:-1]) / 2
        return order[torch.bucketize(latent.detach().double(), middles)]


class Centroids(StraightThrough):
    """Each weight keeps its entry, whose gradient is the sum of its weights' (Han 2016, section 3.3).

    The floats behind the codes neither count nor move. An entry that is exactly zero stays zero.
    """

    def __init__(self, book: Codebook) -> None:
        super().__init__()
        self.table = nn.Parameter(book.table.clone())
        self.register_buffer("learns", book.table != 0)
        self.register_buffer("codes", book.codes.long())

    def forward(self, latent: Tensor) -> Tensor:
        entries = torch.where(self.get_buffer("learns"), self.table, self.table.detach())
        codes = self.get_buffer("codes")
        return entries.index_select(0, codes.flatten()).reshape(codes.shape)

    def encode(self, latent: Tensor) -> Codebook:
        return Codebook(self.get_buffer("codes").to(torch.int32).contiguous(), self.table.detach().clone())
