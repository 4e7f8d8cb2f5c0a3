"""A parameter: the interface that every format of numbers implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from engine.types.figures import SlimscopeError


class FormatError(SlimscopeError):
    """A parameter whose parts do not fit together, or bytes that are none; the text names it."""


Section = tuple[str, str, "bytes | memoryview"]  # what a run of bytes holds, how it is coded, the bytes


class Param(ABC):
    """A parameter in one format. Each format is one file in `engine.tensor.formats`."""

    kind: ClassVar[str]  # its id in packed files

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @abstractmethod
    def decode(self) -> Tensor:
        """The values as float32, in `shape`."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The parts as they are stored, by name: integers for codes, zero points and bits, else float32."""

    def settings(self) -> list[Any]:
        """What must be known beside the shape to read it back, as JSON-ready data."""
        return []

    def masked(self, kept: Tensor) -> Param:
        """Exact zeros where `kept` (its shape) is False, in its own format; itself where all is kept."""
        return self if bool(kept.all()) else self.with_zeros(kept)

    @abstractmethod
    def with_zeros(self, kept: Tensor) -> Param:
        """As `masked`, where something goes."""

    @abstractmethod
    def take(self, axis: int, stays: Tensor) -> Param:
        """Only the places `stays` (sorted) along the axis, in its own format if possible."""

    def straight_through(self) -> nn.Module:
        """How it is trained: a `formats.through.StraightThrough`, made of this parameter's scales or table.

        Raises FormatError for a format that cannot be trained on.
        """
        raise FormatError(f"parameters in the format {self.kind!r} can't be trained in it: decode them first")

    @abstractmethod
    def fixed_bits(self) -> int:
        """Bits with codes at fixed width, and all that belongs to them."""

    @abstractmethod
    def huffman_bits(self) -> int:
        """Bits with codes at the length of their Huffman codes, table included."""

    @abstractmethod
    def entropy_bits(self) -> float:
        """Order-0 entropy of its best symbol streams, and 32 bits for each float."""

    def check(self, name: str) -> None:  # noqa: B027  (most formats cannot be inconsistent)
        """Raise FormatError where the parts do not fit together."""

    @abstractmethod
    def sections(self) -> list[Section]:
        """The parameter as runs of bytes, each in the shortest of its codings."""

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        """How many numbers there are beside the parameter's own, such as scales."""
        return 0

    @classmethod
    @abstractmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Param:
        """What `sections` wrote; `cuts` gives the bytes. Raises FormatError for anything else."""

    @classmethod
    def unknown(cls, name: str, codings: Sequence[str]) -> FormatError:
        text = ", ".join(map(str, codings))
        return FormatError(f"{name!r} in this .slim file is of an unknown kind: {cls.kind} as {text[:80]}")
