"""CP of a kernel: a sum of rank-one pieces, found by alternating least squares, and how they cancel.

A kernel W (O, I, kh, kw) as the sum over r of a_r x b_r x c_r x d_r would be four thin convolutions in a row
(Lebedev 2015, arXiv 1412.6553). Unlike singular vectors the pieces are not orthogonal. They may grow while
they cancel each other, and a nearest kernel of a rank need not exist (de Silva, Lim 2008, arXiv
math/0607647): a small change of one piece is then a large one of the kernel, which training can't stand
(Phan 2020, arXiv 2008.05441).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from engine.tensor import grids, splits, tucker
from engine.tensor.granularity import named
from engine.types import SlimscopeError

SWEEPS = 100
TOLD = (1, 2, 3, 5, 8, 12, 20, 30, 50, 70, SWEEPS)  # sweeps that the course is told after
SUMS = ("oihw,ir,hr,wr->or", "oihw,or,hr,wr->ir", "oihw,or,ir,wr->hr", "oihw,or,ir,hr->wr")
RIDGE = 1e-13  # of the mean diagonal: keeps the normal equations of pieces that are alike solvable


@dataclass(frozen=True, eq=False)
class CP:
    """Columns of the four factors (O, R), (I, R), (kh, R) and (kw, R), float64, and how they were found.

    `course` has a (sweep, error, size) for each of TOLD.
    """

    factors: tuple[Tensor, ...]
    course: tuple[tuple[int, float, float], ...]

    @property
    def rank(self) -> int:
        return self.factors[0].shape[1]

    @property
    def weights(self) -> int:
        """Of the four thin convolutions."""
        return sum(factor.numel() for factor in self.factors)

    @property
    def error(self) -> float:
        """Norm of what is left out, over that of the kernel."""
        return self.course[-1][1]

    @property
    def size(self) -> float:
        """Root of the summed squared norms of the pieces, over the norm of the kernel.

        At most 1 where pieces are orthogonal: more of it cancels.
        """
        return self.course[-1][2]

    @property
    def most_opposite(self) -> float:
        """The least cosine between two pieces; 0 for one piece."""
        cosines = torch.ones(self.rank, self.rank, dtype=torch.float64)
        for factor in self.factors:
            columns = factor / factor.norm(dim=0).clamp(min=1e-300)
            cosines *= columns.T @ columns
        return float(cosines.fill_diagonal_(0.0).min())


def weights_at(shape: tuple[int, ...], rank: int) -> int:
    """Weights of the four thin convolutions: rank * (O + I + kh + kw).

    >>> weights_at((64, 32, 3, 3), 10)
    1020
    """
    return rank * sum(shape)


def decompose(weight: Tensor, rank: int, seed: int = 0, sweeps: int = SWEEPS) -> CP:
    """A CP of a kernel (O, I, kh, kw), by alternating least squares from seeded normal factors.

    Each factor in turn is the best for the three others, so that the error never grows. Raises
    SlimscopeError for a weight of another number of dimensions, and for a rank below 1.
    """
    if weight.dim() != 4 or rank < 1:
        raise SlimscopeError(
            f"a CP of rank {rank} of shape {tuple(weight.shape)}: allowed are ranks from 1 on of 4 dimensions"
        )
    kernel, rng = weight.detach().double(), torch.Generator().manual_seed(seed)
    factors = [torch.randn(side, rank, generator=rng, dtype=torch.float64) for side in kernel.shape]
    course = []
    for sweep in range(1, sweeps + 1):
        for mode, sums in enumerate(SUMS):
            others = [factor for number, factor in enumerate(factors) if number != mode]
            factors[mode] = _best(torch.einsum(sums, kernel, *others), others)
            if mode < 3:
                factors[mode] = factors[mode] / factors[mode].norm(dim=0).clamp(min=1e-300)
        if sweep in TOLD or sweep == sweeps:
            course.append((sweep, *_told(kernel, factors)))
    return CP(tuple(factors), tuple(course))


def _best(sums: Tensor, others: list[Tensor]) -> Tensor:
    """The least squares of one factor: the kernel's products with the others, over the others' own."""
    rank = sums.shape[1]
    gram = torch.ones(rank, rank, dtype=torch.float64)
    for factor in others:
        gram *= factor.T @ factor
    ridge = RIDGE * float(gram.diagonal().mean()) + 1e-300
    solved: Tensor = torch.linalg.solve(gram + ridge * torch.eye(rank, dtype=torch.float64), sums.T)
    return solved.T


def join(factors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """The kernel that the pieces add up to, float64."""
    return torch.einsum("or,ir,hr,wr->oihw", *factors)


def _told(kernel: Tensor, factors: list[Tensor]) -> tuple[float, float]:
    """Error and size of the pieces, over the norm of the kernel."""
    whole = float(kernel.norm()) or 1.0
    norms = torch.stack([factor.norm(dim=0) for factor in factors]).prod(0)
    return float((join(factors) - kernel).norm()) / whole, float(norms.norm()) / whole


# ---------------------------------------------------------------- beside what can be trained

SHARES = (0.1, 0.2, 0.4)  # of the kernel's weights
BITS = 4
FORMS = ("tucker", "spatial", "channel")
COLUMNS = ("rank", "weights", "cp", *FORMS, "size", "opposite", "cp_rounded", "tucker_rounded")


def beside(weight: Tensor, found: Sequence[CP]) -> pd.DataFrame:
    """A row for each CP: its error, that of other forms with at most as many weights, and how pieces cancel.

    Columns COLUMNS. A form whose lowest ranks have more weights has no error. The last two are the errors
    where all factors are rounded to BITS, symmetric, a scale for each row of a thin layer.
    """
    rows = []
    for own in found:
        errors, tucker_rounded = [], None
        for form in FORMS:
            split = splits.of(weight, form)
            ranks = split.for_share(own.weights / weight.numel())
            fits = split.weights(ranks) <= own.weights
            errors.append(split.error(ranks) if fits else None)
            if form == "tucker" and fits:
                tucker_rounded = _off(weight, tucker.join(*(_rounded(each) for each in split.layers(ranks))))
        rounded = [_rounded(factor.T.float().contiguous()).T.double() for factor in own.factors]
        cancelling = own.size, own.most_opposite
        both = _off(weight, join(rounded)), tucker_rounded
        rows.append((own.rank, own.weights, own.error, *errors, *cancelling, *both))
    return pd.DataFrame(rows, columns=COLUMNS)


def at_shares(weight: Tensor, seed: int = 0) -> list[CP]:
    """The CP of the largest rank, 1 at least, within each of SHARES of the weights; each rank once."""
    per_rank = sum(weight.shape)
    ranks = dict.fromkeys(max(1, int(share * weight.numel() / per_rank)) for share in SHARES)
    return [decompose(weight, rank, seed) for rank in ranks]


def _rounded(factor: Tensor) -> Tensor:
    return grids.quantize(factor, BITS, True, named("channel", 1), "minmax").decode()


def _off(weight: Tensor, near: Tensor) -> float:
    kernel = weight.double()
    return float((near.double() - kernel).norm() / kernel.norm().clamp(min=1e-300))
