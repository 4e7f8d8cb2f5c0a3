"""Codes of a number system, such as fp8 or NF4, and a scale for each tile of a granularity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, huffman_stream_bits, whole_bytes
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
from engine.tensor.formats.through import StraightThrough, through
from engine.tensor.granularity import TENSOR, Granularity
from engine.tensor.number_systems import (
    EXPONENT,
    FLOAT_SCALE,
    UNSCALED,
    NumberSystem,
    floor_log2,
    power,
    system_of,
)
from engine.types import FormatError, Param, Section

SCALE_BITS = {UNSCALED: 0, FLOAT_SCALE: FLOAT, EXPONENT: 8}


@dataclass(frozen=True, eq=False)
class Levels(Param):
    """A parameter in a number system: value = scale * the level that lies `code` steps from zero.

    `codes` has the parameter's shape (int32, 0 for an exact zero). `scale` (float32) is flat, one for each
    tile; a system without scales has one that is 1.

    >>> Levels(torch.tensor([7, 0, -1]), torch.tensor([2.0]), "mxfp4").decode().tolist()
    [12.0, 0.0, -1.0]
    """

    kind: ClassVar[str] = "levels"
    codes: Tensor
    scale: Tensor
    name: str
    granularity: Granularity = TENSOR

    @classmethod
    def of(cls, values: Tensor, name: str, granularity: Granularity = TENSOR) -> Levels:
        """Every value rounded to the nearest level, under the scale that its tile's largest one needs.

        A shared exponent is that of the largest magnitude less that of the largest level, as in the
        Microscaling formats (OCP MX 1.0, section 6.3).
        """
        values, system = values.detach(), system_of(name)
        if system.scaling == UNSCALED:
            granularity = TENSOR
        granularity.check("a tensor", values.shape)
        largest = torch.zeros(math.prod(granularity.tiles(values.shape)))
        for places, tiles in granularity.cut(values):
            largest[places] = tiles.abs().amax(1)
        scale = system.scale_of(largest)
        return cls(_nearest(system, values, scale, granularity), scale, name, granularity)

    @property
    def system(self) -> NumberSystem:
        return system_of(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def decode(self) -> Tensor:
        level = self.system.levels[self.granularity.matrix(self.codes).long() + self.system.zero]
        return self.granularity.back(level * self.granularity.spread(self.scale, self.shape), self.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scale": self.scale}

    def settings(self) -> list[Any]:
        return [self.name, self.granularity.data]

    def straight_through(self) -> StraightThrough:
        return NearestLevel(self)

    # -------------------------------------------------------- changed

    def with_zeros(self, kept: Tensor) -> Levels:
        return replace(self, codes=torch.where(kept, self.codes, 0))

    def take(self, axis: int, stays: Tensor) -> Param:
        """Where tiles would break the values are kept as 32-bit floats."""
        scale = self.granularity.take(self.scale, self.shape, axis, stays)
        if scale is None:
            return Dense(self.decode().index_select(axis, stays))
        return replace(self, codes=self.codes.index_select(axis, stays), scale=scale)

    # -------------------------------------------------------- bits

    def fixed_bits(self) -> int:
        return whole_bytes(self.codes.numel() * self.system.bits) + self._scale_bits()

    def huffman_bits(self) -> int:
        """A table of all that 16 bits can name would be longer than what it saves."""
        if self.system.bits > 8:
            return self.fixed_bits()
        return huffman_stream_bits(self.codes, self.system.bits) + self._scale_bits()

    def entropy_bits(self) -> float:
        scales = codes.ideal_bits(_exponents(self.scale)) if self._shares_exponents else self._scale_bits()
        return codes.ideal_bits(numbers(self.codes)) + scales

    def _scale_bits(self) -> int:
        return SCALE_BITS[self.system.scaling] * self.scale.numel()

    @property
    def _shares_exponents(self) -> bool:
        return self.system.scaling == EXPONENT

    # -------------------------------------------------------- bytes

    def check(self, name: str) -> None:
        wanted, zero = self.granularity.count(repr(name), self.shape), self.system.zero
        if self.scale.shape != (wanted,):
            raise FormatError(
                f"{name!r} has {tuple(self.scale.shape)} scales: codes {self.shape} with {self.granularity} "
                f"need {wanted}"
            )
        low, high = -zero, len(self.system.values) - 1 - zero
        if self.codes.numel() and not low <= int(self.codes.min()) <= int(self.codes.max()) <= high:
            raise FormatError(f"a code of {name!r} is no number of {self.name}: allowed are {low} to {high}")

    def sections(self) -> list[Section]:
        coded: list[Section] = [("codes", *codes.encode(numbers(self.codes), row_length(self.shape)))]
        if self.system.scaling == FLOAT_SCALE:
            return [*coded, write_floats("scales", numbers(self.scale))]
        if self._shares_exponents:
            return [*coded, ("exponents", *codes.encode(_exponents(self.scale)))]
        return coded

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        return Granularity.from_data(settings[-1]).count("a tensor", shape)

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Levels:
        if len(settings) != 2 or not codings or codings[0] not in codes.CODERS:
            raise cls.unknown(name, codings)
        system, granularity = system_of(settings[0]), Granularity.from_data(settings[1])
        scales = granularity.count(repr(name), shape)
        flat = codes.decode(codings[0], next(cuts), math.prod(shape))
        match system.scaling, codings[1:]:
            case "none", [] if granularity == TENSOR:
                scale = torch.ones(1)
            case "float", [coding] if coding in FLOATS:
                scale = read_floats(coding, next(cuts), scales)
            case "exponent", [coding]:
                exponents = integers(codes.decode(coding, next(cuts), scales))
                _check_exponents(name, exponents)
                scale = power(exponents)
            case _:
                raise cls.unknown(name, codings)
        check_scales(name, scale)
        found = cls(integers(flat).reshape(shape), scale, settings[0], granularity)
        found.check(name)
        return found


def _nearest(system: NumberSystem, values: Tensor, scale: Tensor, granularity: Granularity) -> Tensor:
    scaled = granularity.matrix(values) / granularity.spread(scale, values.shape)
    return granularity.back(system.nearest(scaled), values.shape)


def _exponents(scale: Tensor) -> codes.Ints:
    found: codes.Ints = floor_log2(scale).numpy()
    return found


def _check_exponents(name: str, exponents: Tensor) -> None:
    if exponents.numel() and not -127 <= int(exponents.min()) <= int(exponents.max()) <= 127:
        raise FormatError(f"a shared exponent of {name!r} does not fit 8 bits: allowed are -127 to 127")


class NearestLevel(StraightThrough):
    """Rounds to the nearest level; scales that are floats learn with the weights, as step sizes do.

    Weights beyond the ends get no gradient.
    """

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        if levels.system.scaling == FLOAT_SCALE:
            self.scale = nn.Parameter(levels.scale.clone())
        else:
            self.register_buffer("scale", levels.scale.clone())
        self.name, self.granularity = levels.name, levels.granularity

    def forward(self, latent: Tensor) -> Tensor:
        system, scale = system_of(self.name), self.granularity.spread(self._positive(), latent.shape)
        steps = self.granularity.matrix(latent) / scale
        rounded = system.levels[system.nearest(steps.detach()).long() + system.zero]
        held = steps.clamp(system.values[0], system.top)
        return self.granularity.back(through(held, rounded) * scale, latent.shape)

    def encode(self, latent: Tensor) -> Levels:
        scale = self._positive().detach().clone()
        rounded = _nearest(system_of(self.name), latent.detach(), scale, self.granularity)
        return Levels(rounded, scale, self.name, self.granularity)

    def _positive(self) -> Tensor:
        return self.scale.clamp(min=torch.finfo(torch.float32).tiny)
