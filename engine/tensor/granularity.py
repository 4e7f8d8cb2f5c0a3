"""How many numbers of a tensor share one value, such as a scale: a value of its own.

A granularity sees a tensor as a matrix and cuts that into tiles of one size, of which the last ones may be
smaller. What is shared is flat: one value for each tile, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.types import FormatError, SlimscopeError


@dataclass(frozen=True)
class Granularity:
    """Made by `TENSOR`, `TOKEN`, `per_axis`, `per_group` and `per_block`.

    >>> per_group(2).tiles((3, 5)), per_block(2, 4).tiles((3, 5))
    ((3, 3), (2, 2))
    """

    kind: str = "tensor"
    axis: int | None = None
    size: tuple[int, ...] = ()

    def __str__(self) -> str:
        along = "" if self.axis is None else f"axis {self.axis}"
        match self.kind:
            case "group":
                return f"groups of {self.size[0]} along {along or 'all of it'}"
            case "block":
                return f"blocks of {self.size[0]} x {self.size[1]}"
            case "token":
                return "tokens"
        return along or "one value for all"

    # ------------------------------------------------------------ as data

    @property
    def data(self) -> list[Any]:
        """As JSON-ready data."""
        return [self.kind, *([self.axis] if self.kind in ("axis", "group") else []), *self.size]

    @classmethod
    def from_data(cls, raw: Any) -> Granularity:
        """Raises FormatError for what `data` never gives."""
        match raw:
            case ["tensor"]:
                return TENSOR
            case ["token"]:
                return TOKEN
            case ["axis", axis] if _is_whole(axis):
                return per_axis(axis)
            case ["group", axis, size] if (axis is None or _is_whole(axis)) and _is_whole(size):
                return per_group(size, axis)
            case ["block", rows, columns] if _is_whole(rows) and _is_whole(columns):
                return per_block(rows, columns)
        raise FormatError(
            f"a granularity is {ascii(raw)[:60]}: allowed are tensor, token, axis, group and block, with the "
            "whole numbers that belong to them"
        )

    def check(self, whose: str, shape: Sequence[int]) -> None:
        """Raise FormatError where a tensor of this shape cannot be cut so."""
        deep = 1 if self.kind in ("token", "block") else 0 if self.axis is None else self.axis + 1
        if len(shape) < deep or min(self.size, default=1) < 1:
            raise FormatError(f"{whose} of shape {tuple(shape)} has no {self}")

    # ------------------------------------------------------------ the tensor as a matrix

    @property
    def _lead(self) -> int | None:
        return 0 if self.kind == "block" else self.axis

    def sides(self, shape: Sequence[int]) -> tuple[int, int]:
        """(rows, columns) of the matrix: rows are places of the axis, outputs of blocks, or tokens."""
        rows = 1 if self._lead is None else shape[self._lead]
        if self.kind == "token":
            rows = math.prod(shape[:-1])
        return rows, math.prod(shape) // max(rows, 1)

    def matrix(self, values: Tensor) -> Tensor:
        """The tensor as (rows, columns)."""
        return values.movedim(self._lead or 0, 0).reshape(self.sides(values.shape))

    def back(self, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """The tensor of this shape that `matrix` came from."""
        lead = self._lead or 0
        moved = [*shape[lead : lead + 1], *shape[:lead], *shape[lead + 1 :]]
        return matrix.reshape(moved).movedim(0, lead).contiguous()

    # ------------------------------------------------------------ its tiles

    def tile(self, shape: Sequence[int]) -> tuple[int, int]:
        """(rows, columns) of one tile, never longer than the matrix."""
        rows, columns = self.sides(shape)
        down, across = self.size if self.kind == "block" else (1, *(self.size or [columns]))
        return max(min(down, rows), 1), max(min(across, columns), 1)

    def count(self, whose: str, shape: Sequence[int]) -> int:
        """How many tiles there are. Raises FormatError, with `whose` tensor it is, where they do not fit."""
        self.check(whose, shape)
        return math.prod(self.tiles(shape))

    def tiles(self, shape: Sequence[int]) -> tuple[int, int]:
        """How many tiles there are (down, across)."""
        (rows, columns), (down, across) = self.sides(shape), self.tile(shape)
        return -(-rows // down), -(-columns // across) if self.size else 1

    def cut(self, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The tiles by size: (their numbers (t,), what is in them (t, numbers of a tile)).

        Whole ones first, then those at the right edge, at the lower edge, and in the corner.
        """
        matrix, tile, tiles = self.matrix(values), self.tile(values.shape), self.tiles(values.shape)
        place, found = torch.arange(math.prod(tiles)).reshape(tiles), []
        for r, height in _edges(matrix.shape[0], tile[0]):
            for c, width in _edges(matrix.shape[1], tile[1]):
                inside = matrix[r:, c:].unfold(0, height, height).unfold(1, width, width)
                down, across = inside.shape[:2]
                numbers = place[r // tile[0] :, c // tile[1] :][:down, :across]
                found.append((numbers.flatten(), inside.reshape(-1, height * width)))
        return found

    def members(self, values: Tensor, number: int) -> Tensor:
        """What is in one tile, flat."""
        (down, across), (row, column) = self.tile(values.shape), divmod(number, self.tiles(values.shape)[1])
        matrix = self.matrix(values)
        return matrix[row * down : (row + 1) * down, column * across : (column + 1) * across].flatten()

    def of_largest(self, values: Tensor) -> int:
        """The number of the tile that holds the value of largest magnitude.

        >>> per_group(2).of_largest(torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -3.0]]))
        3
        """
        numbers = self.spread(torch.arange(math.prod(self.tiles(values.shape))), values.shape)
        place = int(self.matrix(values).abs().argmax())
        return int(numbers.expand(self.sides(values.shape)).flatten()[place])

    def spread(self, shared: Tensor, shape: Sequence[int]) -> Tensor:
        """One value for each tile -> what goes over the matrix: (rows or 1, columns or 1)."""
        grid = shared.reshape(self.tiles(shape))
        for dim, length in enumerate(self.tile(shape)) if self.size else ():
            if length > 1:
                grid = grid.repeat_interleave(length, dim).narrow(dim, 0, self.sides(shape)[dim])
        return grid

    def over(self, shared: Tensor, shape: Sequence[int]) -> Tensor:
        """One value for each tile -> one for each number: (shape)."""
        return self.back(self.spread(shared, shape).expand(self.sides(shape)), shape)

    def take(self, shared: Tensor, shape: Sequence[int], axis: int, stays: Tensor) -> Tensor | None:
        """What is shared after only the places `stays` of an axis are left; None where tiles would break."""
        if self.kind == "tensor" or (self.kind == "axis" and axis != self.axis):
            return shared
        if self.kind == "token":
            last = axis == len(shape) - 1
            return shared if last else shared.reshape(shape[:-1]).index_select(axis, stays).flatten()
        if axis != self.axis:
            return None
        return shared.reshape(self.tiles(shape)).index_select(0, stays).flatten()


def _edges(side: int, length: int) -> list[tuple[int, int]]:
    """Where tiles of equal size begin, and that size: whole ones, and what is left of the side."""
    whole = side // length * length
    return [edge for edge in ((0, length), (whole, side - whole)) if 0 < edge[1] <= side]


def _is_whole(number: object) -> bool:
    return type(number) is int and 0 <= number < 1 << 31


TENSOR = Granularity()
TOKEN = Granularity("token")


def per_axis(axis: int) -> Granularity:
    """One value for each place of an axis."""
    return Granularity("axis", axis)


def per_group(size: int, axis: int | None = 0) -> Granularity:
    """One for each run of `size` neighbours within a place of the axis, or in all of it (None)."""
    return Granularity("group", axis, (size,))


def per_block(rows: int, columns: int) -> Granularity:
    """One for each block of the matrix (outputs, all the rest)."""
    return Granularity("block", None, (rows, columns))


def named(word: str, group: int) -> Granularity:
    """What a setting says: `tensor`, `channel` (an output's row), or `group` (within such a row).

    Raises SlimscopeError for another word.
    """
    words = {"tensor": TENSOR, "channel": per_axis(0), "group": per_group(group)}
    if word not in words:
        raise SlimscopeError(f"granularity is {word!r}: allowed is one of {', '.join(words)}")
    return words[word]
