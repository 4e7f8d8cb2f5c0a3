"""A projection that several matrices share: each becomes thin, and all read the same few numbers.

The states h of a recurrent layer are read by its recurrent matrix W_h and by the matrices W_x behind it.
With a projection P (r, h) they become W_h ~ Z_h P and W_x ~ Z_x P, so that P h is worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.tensor import factors
from engine.tensor.factors import Decomposition
from engine.types import SlimscopeError


@dataclass(frozen=True, eq=False)
class Joint:
    """Matrices (rows, h) that read the same states: the recurrent one first; P is cut from `parts`."""

    matrices: tuple[Tensor, ...]
    parts: Decomposition

    @property
    def states(self) -> int:
        return self.parts.full_rank

    @property
    def weights(self) -> int:
        """Of the matrices as they are."""
        return sum(matrix.numel() for matrix in self.matrices)

    @property
    def weights_per_rank(self) -> int:
        """One row of P, and one column of each thin matrix."""
        return self.states + sum(map(len, self.matrices))

    @property
    def kept(self) -> Tensor:
        """Share of each matrix's sum of squares that Z P holds at ranks 1 to h: (matrices, h), float64."""
        right = self.parts.right.T
        squares = torch.stack([(m.detach().double() @ right).square().sum(0) for m in self.matrices])
        return squares.cumsum(1) / squares.sum(1, keepdim=True).clamp(min=1e-300)

    def projection(self, rank: int) -> Tensor:
        """P (r, h), float32, with rows of length 1 that are at right angles.

        Raises SlimscopeError for a rank outside of 1..h - 1: a full one is no projection.
        """
        if not 1 <= rank < self.states:
            raise SlimscopeError(
                f"rank is {rank}: allowed is 1 to {self.states - 1} for {self.states} states"
            )
        return self.parts.right[:rank].to(torch.float32).contiguous()


def joint(recurrent: Tensor, readers: Sequence[Tensor], stacked: bool) -> Joint:
    """What P is cut from: the right singular vectors of W_h (Prabhavalkar et al. 2016), or of all, stacked.

    Of all projections of a rank the first loses least of W_h, the second least of all matrices together
    (Eckart and Young 1936). The matrices are (rows, h), with at least h rows in the recurrent one, as an
    LSTM has (4h, h).

    >>> joint(torch.diag(torch.tensor([3.0, 4.0])), [], False).projection(1).abs().tolist()
    [[0.0, 1.0]]
    """
    matrices = (recurrent, *readers)
    if not stacked:
        return Joint(matrices, factors.decompose(recurrent, "linear"))
    stack = torch.cat([matrix.detach().double() for matrix in matrices])
    return Joint(matrices, factors.decompose(stack, "linear"))


def thin(matrix: Tensor, projection: Tensor) -> Tensor:
    """Z (rows, r) for which Z P is nearest to the matrix (rows, h): W P^T (P P^T)^-1, in float64.

    >>> thin(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])).tolist()
    [[2.0]]
    """
    p, w = projection.double(), matrix.detach().double()
    found: Tensor = torch.linalg.solve(p @ p.T, p @ w.T)
    return found.T.contiguous()


def kept(matrix: Tensor, projection: Tensor) -> float:
    """Share of a matrix's sum of squares that Z P holds; 1 for a matrix of zeros."""
    w = matrix.detach().double()
    total, lost = (
        float(w.square().sum()),
        float((w - thin(w, projection) @ projection.double()).square().sum()),
    )
    return 1 - lost / total if total > 0 else 1.0


def rank_for_energy(joints: Sequence[Joint], share: float) -> int:
    """The smallest rank below h at which each keeps this share of the energy of what its P is cut from."""
    wanted = max(factors.rank_for_energy(each.parts.values, share) for each in joints)
    return min(wanted, *(each.states - 1 for each in joints))


def rank_for_share(joints: Sequence[Joint], share: float) -> int:
    """The largest rank below h, at least 1, at which all have at most this share of their weights."""
    weights, slope = (
        sum(each) for each in zip(*((j.weights, j.weights_per_rank) for j in joints), strict=True)
    )
    return max(1, min(int(share * weights / slope + 1e-9), *(each.states - 1 for each in joints)))
