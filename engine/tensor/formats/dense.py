"""32-bit floats as they are; in a file, zeros of a matrix may be positions instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, bitmask_bits
from engine.tensor.formats.numbers import (
    FLOATS,
    least_of_floats,
    numbers,
    read_floats,
    row_length,
    write_floats,
)
from engine.tensor.formats.through import StraightThrough
from engine.types import FormatError, Param, Section


@dataclass(frozen=True, eq=False)
class Dense(Param):
    """A parameter stored as it is: 32-bit floats."""

    kind: ClassVar[str] = "dense"
    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def decode(self) -> Tensor:
        return self.values

    def tensors(self) -> dict[str, Tensor]:
        return {"values": self.values}

    def with_zeros(self, kept: Tensor) -> Dense:
        return Dense(torch.where(kept, self.values, 0.0))

    def take(self, axis: int, stays: Tensor) -> Dense:
        return Dense(self.values.index_select(axis, stays))

    def straight_through(self) -> StraightThrough:
        return AsItIs()

    def fixed_bits(self) -> int:
        return FLOAT * self.values.numel()

    def huffman_bits(self) -> int:
        is_matrix = self.values.dim() >= 2
        return min(self.fixed_bits(), bitmask_bits(self.values)) if is_matrix else self.fixed_bits()

    def entropy_bits(self) -> float:
        values = self.values.detach().contiguous().reshape(-1).numpy()
        if self.values.dim() < 2 or np.count_nonzero(values) == len(values):
            return self.fixed_bits()
        marks = zero_marks(values)
        return min(self.fixed_bits(), codes.ideal_bits(marks) + FLOAT * int((marks == 1).sum()))

    def sections(self) -> list[Section]:
        values = numbers(self.values)
        if len(self.shape) > 1 and np.count_nonzero(values) < len(values):
            marks = zero_marks(values)
            coding, positions = codes.encode(marks, row_length(self.shape))
            sparse: list[Section] = [
                ("positions", coding, positions),
                write_floats("values", values[marks == 1]),
            ]
            return _shorter(sparse, values)
        return [write_floats("values", values)]

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Dense:
        count = int(np.prod(shape, dtype=object))
        match settings, codings:
            case [], [coding] if coding in FLOATS:
                return cls(read_floats(coding, next(cuts), count).reshape(shape))
            case [], [coding, values] if values in FLOATS:
                marks = codes.decode(coding, next(cuts), count)
                return cls(_survivors(marks, values, next(cuts)).reshape(shape))
        raise cls.unknown(name, codings)


def _shorter(sparse: list[Section], values: NDArray[Any]) -> list[Section]:
    """The sections, or all values as floats where that is shorter; tried only where it can be."""
    length = sum(len(data) for *_, data in sparse)
    if least_of_floats(values) >= length:
        return sparse
    whole = write_floats("values", values)
    return sparse if length <= len(whole[-1]) else [whole]


def zero_marks(values: NDArray[Any]) -> NDArray[np.uint8]:
    """What each of the float32 values (n,) is: 0 exact zero, 1 another number, 2 the negative zero.

    >>> zero_marks(np.array([0.0, 3.0, -0.0], np.float32)).tolist()
    [0, 1, 2]
    """
    pattern = values.view(np.uint32)
    marks: NDArray[np.uint8] = (pattern != 0).astype(np.uint8)
    marks[pattern == 1 << 31] = 2
    return marks


def _survivors(marks: codes.Ints, coding: str, data: bytes) -> Tensor:
    if len(marks) and not 0 <= int(marks.min()) <= int(marks.max()) <= 2:
        raise FormatError("a position in this .slim file is neither zero nor a number")
    values = np.where(marks == 2, np.float32(-0.0), np.float32(0.0))
    values[marks == 1] = read_floats(coding, data, int((marks == 1).sum())).numpy()
    return torch.from_numpy(values)


class AsItIs(StraightThrough):
    """32-bit floats are not rounded."""

    def forward(self, latent: Tensor) -> Tensor:
        return latent

    def encode(self, latent: Tensor) -> Dense:
        return Dense(latent.detach().clone())
