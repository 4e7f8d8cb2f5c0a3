"""Number systems of few bits as tables: the values that a code may stand for, before they are scaled.

A table is a rising row of values with an exact zero. What scales it, and which tensor it is for, is not
known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from engine.types import FormatError

UNSCALED, FLOAT_SCALE, EXPONENT = "none", "float", "exponent"
# Quantiles of a normal distribution, as published (Dettmers 2023, arXiv 2305.14314, appendix E).
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


@dataclass(frozen=True, eq=False)
class NumberSystem:
    """Rising values with an exact zero, the bits of a code, and how they are scaled.

    `scaling` is `none`, `float` (32 bits for each tile) or `exponent` (a power of two, 8 bits for each
    tile). `lift` is what the largest weight is multiplied by before its power of two is taken.
    """

    title: str
    bits: int
    values: tuple[float, ...]
    scaling: str = FLOAT_SCALE
    lift: float = 1.0

    @cached_property
    def levels(self) -> Tensor:
        """The values: (n,) float32."""
        return torch.tensor(self.values, dtype=torch.float64).to(torch.float32)

    @cached_property
    def borders(self) -> Tensor:
        """Between two levels each: a value that lies on a border goes to the even side."""
        wide = torch.tensor(self.values, dtype=torch.float64)
        middles = ((wide[1:] + wide[:-1]) / 2).to(torch.float32)
        odd = (torch.arange(len(middles)) - self.zero) % 2 == 1
        return torch.where(odd, torch.nextafter(middles, torch.tensor(-torch.inf)), middles)

    @cached_property
    def zero(self) -> int:
        """The place of the exact zero."""
        return self.values.index(0.0)

    @property
    def top(self) -> float:
        return self.values[-1]

    def nearest(self, scaled: Tensor) -> Tensor:
        """Steps from zero to the nearest value, int32; ties go to an even number of steps (IEEE 754).

        What lies beyond an end goes to that end.

        >>> SYSTEMS["mxfp4"].nearest(torch.tensor([0.25, 0.75, 9.0, -0.6])).tolist()
        [0, 2, 7, -1]
        """
        return torch.bucketize(scaled, self.borders, out_int32=True) - self.zero

    def scale_of(self, largest: Tensor) -> Tensor:
        """Scales (t,) float32 under which magnitudes up to `largest` (t,) fit; 1 where all is zero."""
        if self.scaling == UNSCALED:
            return torch.ones_like(largest)
        if self.scaling == FLOAT_SCALE:
            scale = (largest.double() / self.top).to(torch.float32)
            return torch.where(largest > 0, scale.clamp(min=torch.finfo(torch.float32).tiny), 1.0)
        exponent = floor_log2(largest.double() * self.lift) - floor_log2(torch.tensor(self.top))
        return torch.where(largest > 0, power(exponent), 1.0)


def floor_log2(positive: Tensor) -> Tensor:
    """The exponent of the largest power of two that is not larger, exactly.

    >>> floor_log2(torch.tensor([1.0, 7.9, 8.0])).tolist()
    [0, 2, 3]
    """
    return torch.frexp(positive).exponent - 1


def power(exponent: Tensor) -> Tensor:
    """2 to these whole numbers, kept within those of an 8-bit exponent (-127 to 127), as float32."""
    held = exponent.clamp(-127, 127)
    return torch.ldexp(torch.ones_like(held, dtype=torch.float64), held).to(torch.float32)


def mirrored(magnitudes: list[float]) -> tuple[float, ...]:
    """Rising magnitudes above zero -> the same on both sides of zero."""
    return (*(-value for value in reversed(magnitudes)), 0.0, *magnitudes)


def floating(exponent_bits: int, mantissa_bits: int, bias: int, top: float) -> tuple[float, ...]:
    """All finite values of a floating-point format with a sign, subnormal ones included, up to `top`.

    >>> floating(2, 1, 1, 6.0)[7:]
    (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    """
    one = 1 << mantissa_bits
    found = []
    for code in range(1, 1 << (exponent_bits + mantissa_bits)):
        exponent, mantissa = divmod(code, one)
        whole = mantissa + (one if exponent else 0)
        found.append(whole * 2.0 ** (max(exponent, 1) - bias - mantissa_bits))
    return mirrored([value for value in found if value <= top])


def whole(top: int, unit: float = 1.0) -> tuple[float, ...]:
    """Whole numbers from -top to top, in this unit."""
    return tuple(unit * number for number in range(-top, top + 1))


SYSTEMS: dict[str, NumberSystem] = {
    "bf16": NumberSystem("bf16", 16, floating(8, 7, 127, (2 - 2.0**-7) * 2.0**127), UNSCALED),
    "fp16": NumberSystem("fp16", 16, floating(5, 10, 15, 65504.0), UNSCALED),
    "mxint8": NumberSystem("MXINT8", 8, whole(127, 2.0**-6), EXPONENT),
    "fp8_e4m3": NumberSystem("fp8 E4M3", 8, floating(4, 3, 7, 448.0)),
    "fp8_e5m2": NumberSystem("fp8 E5M2", 8, floating(5, 2, 15, 57344.0)),
    "logarithmic": NumberSystem("logarithmic", 5, mirrored([2.0 ** (-k / 2) for k in range(14, -1, -1)])),
    "nf4": NumberSystem("NF4", 4, NF4),
    "int4": NumberSystem("int4", 4, whole(7)),
    "mxfp4": NumberSystem("MXFP4", 4, floating(2, 1, 1, 6.0), EXPONENT),
    "power_of_two": NumberSystem(
        "power of two", 4, mirrored([2.0**-k for k in range(6, -1, -1)]), EXPONENT, 4 / 3
    ),
    "ternary": NumberSystem("ternary", 2, whole(1)),
}
BLOCK = 32  # numbers that share an exponent in MX formats


def system_of(name: object) -> NumberSystem:
    """The number system with this name. Raises FormatError for an unknown one."""
    if not isinstance(name, str) or name not in SYSTEMS:
        raise FormatError(f"number system {ascii(name)[:40]} is not known; there are {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
