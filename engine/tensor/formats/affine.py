"""Integer codes on an affine grid: a scale and a zero point for each tile of a granularity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.tensor import codes
from engine.tensor.affine import code_range
from engine.tensor.codes import Ints
from engine.tensor.formats.bits import FLOAT, whole_bytes
from engine.tensor.formats.numbers import numbers, row_length
from engine.tensor.formats.stepped import stepped
from engine.tensor.formats.through import StraightThrough, above_zero
from engine.tensor.formats.tiled import Tiled
from engine.tensor.granularity import Granularity

WIDEST = 16  # bits of a code


@dataclass(frozen=True, eq=False)
class AffineGrid(Tiled):
    """A parameter on an affine grid: value = scale * (code - zero).

    `codes` has the parameter's shape (int32). `scale` (float32) and `zero` (int32) are flat, one for each
    tile of the granularity. `bits` is the width of a code.

    >>> AffineGrid(torch.tensor([3, 1]), torch.tensor([0.5]), torch.tensor([1]), 2).decode().tolist()
    [1.0, 0.0]
    """

    kind: ClassVar[str] = "grid"
    widest: ClassVar[int] = WIDEST

    def decode(self) -> Tensor:
        scale, zero = (self.granularity.spread(each, self.shape) for each in (self.scale, self.zero))
        values = (self.granularity.matrix(self.codes) - zero).to(torch.float32) * scale
        return self.granularity.back(values, self.shape)

    @property
    def symmetric(self) -> bool:
        """Whether codes may lie on both sides of zero: where none does, as their ends suggest."""
        low, high = (int(end) for end in self.codes.aminmax())
        fits = self.bits > 1 and high <= code_range(self.bits, True)[1]
        return not bool(self.zero.any()) and (low < 0 or fits)

    def straight_through(self) -> StraightThrough:
        return Steps(self)

    # -------------------------------------------------------- changed

    def with_zeros(self, kept: Tensor) -> AffineGrid:
        """Scales stay; what goes gets the code that means zero."""
        zero = self.granularity.over(self.zero, self.shape)
        return replace(self, codes=torch.where(kept, self.codes, zero.to(self.codes.dtype)))

    # -------------------------------------------------------- bits

    def entropy_bits(self) -> float:
        best = min(codes.ideal_bits(stream) for stream in self.streams().values())
        return best + codes.ideal_bits(self.zero.numpy()) + FLOAT * self.scale.numel()

    def width(self) -> int:
        """The grid's bits; one more where sign x scale (codes -1 and 1) also has pruned zeros."""
        return max(self.bits, codes.width(len(torch.unique(self.codes))))

    def bits_beside(self) -> int:
        points = whole_bytes(self.zero.numel() * self.bits) if bool((self.zero != 0).any()) else 0
        return FLOAT * self.scale.numel() + points

    # -------------------------------------------------------- bytes

    def streams(self) -> dict[str, NDArray[np.integer]]:
        """The integer streams that the codes may be written as: name -> (n,) symbols.

        `codes` as they are; where zero points differ, also `steps` = code - zero point, in which
        an exact zero is the same symbol everywhere.
        """
        flat, zero = numbers(self.codes), numbers(self.zero)
        if len(flat) == 0 or len(zero) < 2 or int(zero.min()) == int(zero.max()):
            return {"codes": flat}
        return {
            "codes": flat,
            "steps": flat.astype(np.int64) - _flat(self.granularity.over(self.zero, self.shape)),
        }

    def written(self) -> tuple[str, bytes]:
        """The shortest of its streams."""
        written = [
            (coding if name == "codes" else f"{name} {coding}", data)
            for name, stream in self.streams().items()
            for coding, data in [codes.encode(stream, row_length(self.shape))]
        ]
        return min(written, key=lambda pair: len(pair[1]))

    @classmethod
    def read(cls, coding: str, content: bytes, shape: list[int], zero: Tensor, tiles: Granularity) -> Ints:
        flat = super().read(coding.removeprefix("steps "), content, shape, zero, tiles)
        steps: Ints = flat + _flat(tiles.over(zero, shape)) if coding.startswith("steps ") else flat
        return steps


def _flat(points: Tensor) -> Ints:
    flat: Ints = numbers(points).astype(np.int64)
    return flat


class Steps(StraightThrough):
    """Rounds to the grid; the step sizes learn with the weights (LSQ: Esser 2020, arXiv 1902.08153).

    A step's gradient is that of `stepped`, times 1 / sqrt(N * Q): N weights share the step, and Q is the
    largest number of steps above zero. Exact zeros stay; a step never falls to zero.
    """

    def __init__(self, grid: AffineGrid) -> None:
        super().__init__()
        self.scale = nn.Parameter(grid.scale.clone())
        self.register_buffer("zero", grid.zero.clone())
        self.bits, self.symmetric, self.granularity = grid.bits, grid.symmetric, grid.granularity
        top = (code_range(self.bits, self.symmetric)[1] - grid.zero).clamp(min=1)
        weights = grid.codes.numel() / max(len(grid.scale), 1)
        self.register_buffer("factor", 1 / (weights * top).sqrt(), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        step, zero, factor = self._over(latent, above_zero(self.scale))
        low, high = (end - zero for end in code_range(self.bits, self.symmetric))
        one_bit = self.symmetric and self.bits == 1
        rounded = stepped(self.granularity.matrix(latent), step, low, high, factor, one_bit)
        return self.granularity.back(rounded, latent.shape)

    def encode(self, latent: Tensor) -> AffineGrid:
        with torch.no_grad():
            scale = above_zero(self.scale)
            step, zero, _ = self._over(latent, scale)
            codes = self.granularity.matrix(self.forward(latent)) / step
        whole = self.granularity.back((codes.round() + zero).to(torch.int32), latent.shape)
        return AffineGrid(whole, scale, self.get_buffer("zero").clone(), self.bits, self.granularity)

    def _over(self, latent: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        """Steps, zero points and factors, as they go over the matrix."""
        each = (scale, self.get_buffer("zero"), self.get_buffer("factor"))
        return tuple(self.granularity.spread(one, latent.shape) for one in each)
