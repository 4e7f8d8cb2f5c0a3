"""What a layer can be split into, at any ranks: two thin layers or Tucker's three, from one decomposition.

Both answer the same questions: how many weights there are then, how much is kept, what ranks a wish means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor import factors, tucker
from engine.tensor.bit_budget import least_loss, undominated
from engine.tensor.factors import Decomposition, Shape
from engine.tensor.tucker import Tucker

Ranks = tuple[int, ...]  # of a pair one, of Tucker's three that of the outputs and that of the inputs


@dataclass(frozen=True)
class Options:
    """Ranks that save weights, the fewest weights first: each keeps more than those before it."""

    weights: NDArray[np.int64]
    lost: NDArray[np.float64]  # share of the energy
    ranks: list[Ranks]


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
        ranks = np.arange(1, self.full[0] + 1)
        squares = self.parts.values.square().numpy()
        kept = np.cumsum(squares) / (squares.sum() or 1.0)
        return _options(self.shape, ranks * self.weights((1,)), kept, [(int(rank),) for rank in ranks])

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
        return max(1 - self.kept(ranks), 0.0) ** 0.5

    def for_energy(self, share: float) -> Ranks:
        """The pair with the fewest weights that keeps this share of the energy."""
        kept = self.parts.kept.numpy()
        return self._best(kept >= min(share, float(kept[-1, -1])), self.table, -kept)

    def for_share(self, share: float) -> Ranks:
        """The pair that keeps most in this share of the weights; ranks of 1 where none is so small."""
        fits = self.table <= share * math.prod(self.shape)
        return self._best(fits, -self.parts.kept.numpy(), self.table) if fits.any() else (1, 1)

    def _best(self, fits: NDArray[np.bool_], *by: NDArray[np.generic]) -> Ranks:
        """Of the pairs that fit that with the least of the first, then of the second."""
        rows = np.flatnonzero(fits)
        at = rows[np.lexsort([each.ravel()[rows] for each in reversed(by)])[0]]
        outputs, inputs = np.unravel_index(at, fits.shape)
        return int(outputs) + 1, int(inputs) + 1

    @cached_property
    def options(self) -> Options:
        ranks = [(a, b) for a in range(1, self.full[0] + 1) for b in range(1, self.full[1] + 1)]
        return _options(self.shape, self.table.ravel(), self.parts.kept.numpy().ravel(), ranks)

    def layers(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """Weights of the layers in the place of the one, in their order, float32."""
        return tucker.layers(self.parts, *ranks)

    def product(self, ranks: Ranks) -> Tensor:
        """The one kernel that does what they do in a row."""
        return tucker.join(*tucker.layers(self.parts, *ranks))


Split = Pair | Triple


def _options(
    shape: Shape, weights: NDArray[np.int64], kept: NDArray[np.float64], ranks: list[Ranks]
) -> Options:
    lost = np.maximum(1 - kept, 0.0)
    rows = undominated(weights, lost, np.flatnonzero(weights < math.prod(shape)))
    return Options(weights[rows], lost[rows], [ranks[row] for row in rows])


def at_most(split: Split, ranks: Ranks | int) -> Ranks:
    """These ranks, or one number for all of them, as far as the layer has as many."""
    wanted = (ranks,) * len(split.full) if isinstance(ranks, int) else ranks
    return tuple(min(each, most) for each, most in zip(wanted, split.full, strict=True))


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
    return at_most(split, int(value))


def within(splits: Sequence[Split], budget: int) -> list[Ranks | None]:
    """Ranks of each layer, or None where it stays whole, with at most `budget` weights in all of them.

    The shares of energy that the layers lose add up to the least that is possible, exactly. Where even the
    lowest ranks have more weights, these are chosen.

    >>> one, other = torch.diag(torch.tensor([9.0, 1.0, 1.0])), torch.diag(torch.tensor([3.0, 3.0, 3.0]))
    >>> within([Pair(factors.decompose(each, "linear")) for each in (one, other)], 15)
    [(1,), None]
    """
    costs = [[*split.options.weights.tolist(), math.prod(split.shape)] for split in splits]
    losses = [[*split.options.lost.tolist(), 0.0] for split in splits]
    choice = least_loss(costs, losses, max(budget, sum(map(min, costs))))
    ranks: list[list[Ranks | None]] = [[*split.options.ranks, None] for split in splits]
    return [own[place] for own, place in zip(ranks, choice.places, strict=True)]


def fewest(split: Split) -> int:
    """Weights of the layer at its lowest ranks; of the whole one where these save nothing."""
    return int(min([*split.options.weights[:1].tolist(), math.prod(split.shape)]))
