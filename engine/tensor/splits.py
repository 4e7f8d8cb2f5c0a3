"""What a layer can be split into, at any ranks: two thin layers or Tucker's three, from one decomposition.

Both answer the same questions: how many weights there are then, how much is kept, what ranks a wish means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.memory import remembered_of
from engine.tensor import factors, tucker
from engine.tensor.bit_budget import undominated
from engine.tensor.factors import Decomposition, Shape
from engine.tensor.tucker import Tucker

Ranks = tuple[int, ...]  # of a pair one, of Tucker's three that of the outputs and that of the inputs


@dataclass(frozen=True)
class Options:
    """Ranks, the fewest weights first, and what is lost: of a split's own, shares of its energy that fall."""

    weights: NDArray[np.int64]
    lost: NDArray[np.float64]
    ranks: list[Ranks]

    def below(self, most: int) -> Options:
        """Those with fewer weights."""
        few = int((self.weights < most).sum())
        return Options(self.weights[:few], self.lost[:few], self.ranks[:few])


NOTHING = Options(np.zeros(0, np.int64), np.zeros(0), [])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two thin layers, with one rank."""

    parts: Decomposition

    @property
    def shape(self) -> Shape:
        return self.parts.shape

    @property
    def form(self) -> str:
        return self.parts.form

    @property
    def full(self) -> Ranks:
        return (self.parts.full_rank,)

    def weights(self, ranks: Ranks) -> int:
        return factors.weights_at(self.shape, self.form, *ranks)

    def kept(self, ranks: Ranks) -> float:
        """Share of the energy."""
        return factors.energy(self.parts.values, *ranks)

    def error(self, ranks: Ranks) -> float:
        """Norm of what is left out, over that of the whole."""
        return factors.relative_error(self.parts.values, *ranks)

    def for_energy(self, share: float) -> Ranks:
        """The smallest rank that keeps this share of the energy."""
        return (factors.rank_for_energy(self.parts.values, share),)

    def for_share(self, share: float) -> Ranks:
        """The largest rank, at least 1, with at most this share of the weights."""
        return (factors.rank_for_share(self.shape, self.form, share),)

    @cached_property
    def options(self) -> Options:
        """Ranks that save weights."""
        squares = self.parts.values.square().numpy()
        kept = np.cumsum(squares) / (squares.sum() or 1.0)
        weights = np.arange(1, self.full[0] + 1) * self.weights((1,))
        return _front(weights, kept).below(math.prod(self.shape))

    def layers(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """Weights of the layers in the place of the one, in their order, float32."""
        return factors.halves(self.parts, *ranks)

    def product(self, ranks: Ranks) -> Tensor:
        """The one weight that does what they do in a row."""
        return factors.join(*factors.halves(self.parts, *ranks), self.form)


@dataclass(frozen=True, eq=False)
class Triple:
    """A small kernel between two 1x1 ones, with a rank of its outputs and one of its inputs."""

    parts: Tucker
    form = "tucker"

    @property
    def shape(self) -> Shape:
        return self.parts.shape

    @property
    def full(self) -> Ranks:
        return self.parts.full

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """Weights at all ranks, in the places of `parts.kept`."""
        outputs, inputs = (torch.arange(1, most + 1) for most in self.full)
        found: NDArray[np.int64] = tucker.weights_at(self.shape, outputs[:, None], inputs).numpy()
        return found

    def weights(self, ranks: Ranks) -> int:
        return int(tucker.weights_at(self.shape, *ranks))

    def kept(self, ranks: Ranks) -> float:
        """Share of the energy."""
        return float(self.parts.kept[ranks[0] - 1, ranks[1] - 1])

    def error(self, ranks: Ranks) -> float:
        """Norm of what is left out, over that of the whole."""
        return math.sqrt(max(1 - self.kept(ranks), 0.0))

    def for_energy(self, share: float) -> Ranks:
        """The pair with the fewest weights that keeps this share of the energy."""
        enough = self.front.lost <= max(1 - share, float(self.front.lost[-1]))
        return self.front.ranks[int(enough.argmax())]

    def for_share(self, share: float) -> Ranks:
        """The pair that keeps most in this share of the weights; ranks of 1 where none is so small."""
        fits = int((self.front.weights <= share * math.prod(self.shape)).sum())
        return self.front.ranks[max(fits - 1, 0)]

    @cached_property
    def front(self) -> Options:
        """All pairs that no other pair keeps as much as with as few weights."""
        return _front(self.table, self.parts.kept.numpy())

    @cached_property
    def options(self) -> Options:
        return self.front.below(math.prod(self.shape))

    def layers(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """Weights of the layers in the place of the one, in their order, float32."""
        return tucker.layers(self.parts, *ranks)

    def product(self, ranks: Ranks) -> Tensor:
        """The one kernel that does what they do in a row."""
        return tucker.join(*tucker.layers(self.parts, *ranks))


Split = Pair | Triple


def of(weight: Tensor, form: str) -> Split:
    """How a weight is split in this form, by the error of the weights; remembered for the same tensor."""
    if form == "tucker":
        return remembered_of(weight, form, lambda: Triple(tucker.decompose(weight)))
    return Pair(factors.decompose(weight, form))


def _front(weights: NDArray[np.int64], kept: NDArray[np.float64]) -> Options:
    """Of all ranks, the places in both tables, those that keep more than any with as few weights."""
    flat, lost = weights.ravel(), np.maximum(1 - kept.ravel(), 0.0)
    rows = undominated(flat, lost, np.arange(len(flat)))
    places = np.stack(np.unravel_index(rows, weights.shape), 1) + 1
    return Options(flat[rows], lost[rows], [tuple(own) for own in places.tolist()])


def own(split: Split, rank: int | None, input_rank: int | None = None) -> Ranks | None:
    """A layer's own ranks, as far as it has as many; where one of two is not given, it is as the other."""
    wanted = (rank or input_rank, input_rank or rank) if len(split.full) > 1 else (rank,)
    return tuple(min(x, most) for x, most in zip(wanted, split.full, strict=True) if x) or None


def chosen(split: Split, by: str, value: float) -> Ranks:
    """What a setting means for a layer: `by` is rank, energy or share.

    >>> parts = factors.decompose(torch.tensor([[4.0, 0.0], [0.0, 3.0]]), "linear")
    >>> chosen(Pair(parts), "energy", 0.6), chosen(Pair(parts), "energy", 0.7)
    ((1,), (2,))
    """
    match by:
        case "energy":
            return split.for_energy(value)
        case "share":
            return split.for_share(value)
    return tuple(min(int(value), most) for most in split.full)
