"""Integer codes on an affine grid, and a factor for each input that they are multiplied with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from engine.tensor.formats.affine import AffineGrid
from engine.tensor.formats.dense import Dense
from engine.tensor.formats.numbers import FLOATS, numbers, read_floats, write_floats
from engine.types import FormatError, Param, Section

FACTOR = 16  # bits of a factor


@dataclass(frozen=True, eq=False)
class Scaled(Param):
    """A parameter as a grid times a factor for each input: value[o, i] = grid[o, i] * factor[i].

    `factor` is (inputs,) float32, along axis 1, of numbers that 16 bits hold (bfloat16): what AWQ stores
    where nothing before the layer can take it up.

    >>> grid = AffineGrid(torch.tensor([[2, 4]]), torch.tensor([0.5]), torch.tensor([0]), 4)
    >>> Scaled(grid, torch.tensor([1.0, 0.25])).decode().tolist()
    [[1.0, 0.5]]
    """

    kind: ClassVar[str] = "scaled"
    grid: AffineGrid
    factor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    def decode(self) -> Tensor:
        return self.grid.decode() * self.factor.reshape(-1, *[1] * (len(self.shape) - 2))

    def tensors(self) -> dict[str, Tensor]:
        return {**self.grid.tensors(), "factor": self.factor}

    def settings(self) -> list[Any]:
        return self.grid.settings()

    def with_zeros(self, kept: Tensor) -> Scaled:
        return Scaled(self.grid.with_zeros(kept), self.factor)

    def take(self, axis: int, stays: Tensor) -> Param:
        """Where tiles would break the values are kept as 32-bit floats."""
        grid = self.grid.take(axis, stays)
        if not isinstance(grid, AffineGrid):
            return Dense(self.decode().index_select(axis, stays))
        return Scaled(grid, self.factor.index_select(0, stays) if axis == 1 else self.factor)

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return self.grid.fixed_bits() + FACTOR * len(self.factor)

    def huffman_bits(self) -> int:
        return self.grid.huffman_bits() + FACTOR * len(self.factor)

    def entropy_bits(self) -> float:
        return self.grid.entropy_bits() + FACTOR * len(self.factor)

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        self.grid.check(name)
        if len(self.shape) < 2 or self.factor.shape != self.shape[1:2]:
            raise FormatError(
                f"{name!r} has {tuple(self.factor.shape)} factors: codes {self.shape} need one for each input"
            )
        if not torch.equal(self.factor.to(torch.bfloat16).to(torch.float32), self.factor):
            raise FormatError(f"a factor of {name!r} is no 16-bit number (bfloat16)")

    def sections(self) -> list[Section]:
        return [*self.grid.sections(), write_floats("factors", numbers(self.factor))]

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        return AffineGrid.numbers_beside(shape, settings) + (shape[1] if len(shape) > 1 else 0)

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Scaled:
        if not codings or codings[-1] not in FLOATS or len(shape) < 2:
            raise cls.unknown(name, codings)
        grid = AffineGrid.from_sections(name, shape, settings, codings[:-1], cuts)
        found = cls(grid, read_floats(codings[-1], next(cuts), shape[1]))
        found.check(name)
        return found
