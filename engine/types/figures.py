"""A number that says its unit, its basis and how it was obtained; the error that everything raises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class SlimscopeError(Exception):
    """A mistake that the person at the keyboard can mend; its text says how."""


class Basis(StrEnum):
    """Where a number comes from; the three never share a name on screen."""

    COUNTED = "counted"  # exact, read off the tensors
    MODELLED = "modelled"  # a formula under stated assumptions
    MEASURED = "measured"  # observed by running or writing


@dataclass(frozen=True)
class Figure:
    """One number with its unit, its basis and how it was obtained.

    `spread` is the interval (low, high) of a measured figure, in the same unit.

    >>> Figure("parameters", 266610, "1", Basis.COUNTED, "sum of elements").value
    266610
    """

    name: str
    value: float
    unit: str
    basis: Basis
    how: str
    spread: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.spread is not None and self.basis is not Basis.MEASURED:
            raise ValueError(f"figure {self.name!r} is {self.basis}: only a measured one has a spread")

    def to_dict(self) -> dict[str, Any]:
        """The figure as JSON-ready data, in the order in which people read it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "basis": str(self.basis),
            "how": self.how,
            "spread": None if self.spread is None else list(self.spread),
        }
