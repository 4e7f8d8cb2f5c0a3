"""Integer codes on an affine grid: one scale and zero point for a tensor, a row, or a group in a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, huffman_stream_bits, whole_bytes
from engine.tensor.formats.dense import Dense
from engine.tensor.formats.numbers import floats, integers, numbers, raw
from engine.types import FormatError, Param, Section

WIDEST = 16  # bits of a code


def spread_over(per_group: Tensor, rows: int, columns: int, group: int | None) -> Tensor:
    """Repeat one value per (row, group) over the columns: (rows, groups) -> (rows or 1, columns or 1)."""
    if group is None:
        return per_group.reshape(-1, 1)
    # A group may be longer than its row: it is not made longer than that.
    return per_group.reshape(rows, -1).repeat_interleave(min(group, columns), dim=1)[:, :columns]


@dataclass(frozen=True, eq=False)
class Grid(Param):
    """A parameter on an affine grid: value = scale * (code - zero).

    `codes` has the parameter's shape (int32). With `axis=None` there is one scale;
    with `axis=0` one for each row of that axis, and with `group` one for each run of that
    many consecutive elements inside a row (the last may be shorter).
    `scale` (float32) and `zero` (int32) are flat, row by row. `bits` is the width of a code.
    """

    kind: ClassVar[str] = "grid"
    codes: Tensor
    scale: Tensor
    zero: Tensor
    bits: int
    axis: int | None = None
    group: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def rows(self) -> int:
        return 1 if self.axis is None else self.codes.shape[self.axis]

    def decode(self) -> Tensor:
        lead = self.codes if self.axis in (None, 0) else self.codes.movedim(self.axis, 0)
        matrix = lead.reshape(self.rows, -1)
        columns = matrix.shape[1]
        scale = spread_over(self.scale, self.rows, columns, self.group)
        zero = spread_over(self.zero, self.rows, columns, self.group)
        values = ((matrix - zero).to(torch.float32) * scale).reshape(lead.shape)
        return values if self.axis in (None, 0) else values.movedim(0, self.axis).contiguous()

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scale": self.scale, "zero": self.zero}

    def settings(self) -> list[Any]:
        return [self.bits, self.axis, self.group, len(self.scale)]

    # -------------------------------------------------------- changed

    def masked(self, kept: Tensor) -> Grid:
        """Scales stay; what goes gets the code that means zero."""
        return replace(self, codes=torch.where(kept, self.codes, self.spread_zero().to(self.codes.dtype)))

    def spread_zero(self) -> Tensor:
        """The zero point of every code: (codes.shape)."""
        return _spread_zero(self.shape, self.zero, self.axis, self.group)

    def take(self, axis: int, stays: Tensor) -> Param:
        """Groups along another axis would break: then the values are kept as 32-bit floats."""
        if self.group is not None and self.axis != axis:
            return Dense(self.decode().index_select(axis, stays))
        scale, zero = (self._rows_of(values, axis, stays) for values in (self.scale, self.zero))
        return replace(self, codes=self.codes.index_select(axis, stays), scale=scale, zero=zero)

    def _rows_of(self, values: Tensor, axis: int, stays: Tensor) -> Tensor:
        """Scales or zero points (flat, row by row) of the rows that stay."""
        if self.axis != axis:
            return values
        return values.reshape(self.rows, -1).index_select(0, stays).flatten()

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return whole_bytes(self.codes.numel() * self._width()) + self._rest()

    def huffman_bits(self) -> int:
        return huffman_stream_bits(self.codes, self._width()) + self._rest()

    def entropy_bits(self) -> float:
        best = min(codes.ideal_bits(stream) for stream in self.streams().values())
        return best + codes.ideal_bits(self.zero.numpy()) + FLOAT * self.scale.numel()

    def _width(self) -> int:
        """The grid's bits; one more where sign x scale (codes -1 and 1) also has pruned zeros."""
        return max(self.bits, codes.width(len(torch.unique(self.codes))))

    def _rest(self) -> int:
        points = whole_bytes(self.zero.numel() * self.bits) if bool((self.zero != 0).any()) else 0
        return FLOAT * self.scale.numel() + points

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        flat = self.scale.dim() == 1 and self.zero.shape == self.scale.shape
        wanted = self._groups(name)
        if not flat or len(self.scale) != wanted:
            raise FormatError(
                f"{name!r} has scales {tuple(self.scale.shape)}, zero points {tuple(self.zero.shape)}: "
                f"codes {self.shape}, axis {self.axis}, group {self.group} need {wanted}"
            )

    def _groups(self, name: str) -> int:
        """How many scales a grid of this shape has."""
        shape, axis, group = self.shape, self.axis, self.group
        if (axis is not None and not 0 <= axis < len(shape)) or (group is not None and group < 1):
            raise FormatError(f"{name!r} of shape {shape} has no axis {axis} with groups of {group}")
        rows = 1 if axis is None else shape[axis]
        columns = math.prod(shape) // max(rows, 1)
        return rows * (1 if group is None else -(-columns // group))

    def streams(self) -> dict[str, NDArray[np.integer]]:
        """The integer streams that the codes may be written as: name -> (n,) symbols.

        `codes` as they are; where zero points differ, also `steps` = code - zero point, in which
        an exact zero is the same symbol everywhere.
        """
        flat, zero = numbers(self.codes), numbers(self.zero)
        if len(flat) == 0 or len(zero) < 2 or int(zero.min()) == int(zero.max()):
            return {"codes": flat}
        return {"codes": flat, "steps": flat.astype(np.int64) - _flat(self.spread_zero())}

    def sections(self) -> list[Section]:
        coding, data = self._shortest()
        zeros = codes.encode(numbers(self.zero))
        return [
            ("codes", coding, data),
            ("scales", "raw", raw(numbers(self.scale))),
            ("zero points", *zeros),
        ]

    def _shortest(self) -> tuple[str, bytes]:
        written = [
            (coding if name == "codes" else f"{name} {coding}", data)
            for name, stream in self.streams().items()
            for coding, data in [codes.encode(stream)]
        ]
        return min(written, key=lambda pair: len(pair[1]))

    @classmethod
    def numbers_beside(cls, settings: list[Any]) -> int:
        return settings[-1]  # type: ignore[no-any-return]

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Grid:
        match codings:
            case [coding, "raw", zeros]:
                bits, axis, group, scales = settings
            case _:
                raise cls.unknown(name, codings)
        if not all(n is None or _is_place(n) for n in (axis, group)) or not _is_place(bits):
            text = ", ".join(ascii(n)[:40] for n in settings[:3])
            raise FormatError(f"bits, axis and group of {name!r} are {text}: allowed are whole numbers")
        if not 1 <= bits <= WIDEST:
            raise FormatError(f"the codes of {name!r} have {bits} bits: allowed are 1 to {WIDEST}")
        stream = next(cuts)
        scale = floats(next(cuts), scales)
        if bool((scale <= 0).any()):
            raise FormatError(f"a scale of {name!r} is {float(scale.min()):g}: allowed are numbers above 0")
        zero = integers(codes.decode(zeros, next(cuts), scales))
        # Checked without codes first: the zero points are spread over them.
        hollow = torch.empty(shape, dtype=torch.int32, device="meta")
        cls(hollow, scale, zero, bits, axis, group).check(name)
        flat = codes.decode(coding.removeprefix("steps "), stream, math.prod(shape))
        if coding.startswith("steps "):
            flat = flat + _flat(_spread_zero(shape, zero, axis, group))
        return cls(integers(flat).reshape(shape), scale, zero, bits, axis, group)


def _is_place(number: object) -> bool:
    return type(number) is int and 0 <= number < 1 << 31


def _spread_zero(shape: Sequence[int], zero: Tensor, axis: int | None, group: int | None) -> Tensor:
    """The zero point of every code, in the shape of the codes."""
    rows = 1 if axis is None else shape[axis]
    columns = math.prod(shape) // max(rows, 1)
    lead = 0 if axis is None else axis
    moved = [shape[lead], *(s for i, s in enumerate(shape) if i != lead)]
    return spread_over(zero, rows, columns, group).expand(rows, columns).reshape(moved).movedim(0, lead)


def _flat(points: Tensor) -> codes.Ints:
    flat: codes.Ints = numbers(points).astype(np.int64)
    return flat
