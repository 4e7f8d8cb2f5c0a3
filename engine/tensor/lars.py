"""Which inputs a layer can do without: the LASSO path, and least squares on what is kept.

A layer's outputs Y (samples, outputs) are X W^T, with inputs X (samples, channels * width) that fall into
channels of `width` columns each. Channel i adds Z_i = X_i W_i^T to them. He 2017 (arXiv 1707.06168) weighs
the channels by factors beta, 1/2 ||Y - sum beta_i Z_i||^2 + lambda ||beta||_1, keeps those whose factor
is not zero, and then fits the weights of the kept ones to Y anew. All of it is in products of
the data that do not grow with the samples: `gram` = X^T X, `cross` = X^T Y and ||Y||^2. Tensors in,
tensors out, in float64; nothing here knows of nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-9  # share of the mean square of an input that every direction gets, so that none is singular
DEPENDENT = 1e-10  # share of a channel's squares that others leave unexplained: below, it is one of them
END = 1e-12  # share of the first lambda at which the path is over: what is left is rounding
LONGEST = 20  # breakpoints for each channel: ties can make a path of rounding errors go round in circles


@dataclass(frozen=True, eq=False)
class Path:
    """All solutions of a LASSO, from no channel to as many as help.

    Between two breakpoints the coefficients change along straight lines. `lambdas` (breakpoints,)
    fall, `coefficients` are (breakpoints, channels). `supports[k]`, k = 0..channels, is the first
    support of size k: as lambda falls, the first k channels at once whose factors leave zero. Where
    a channel is dropped on the way, a smaller size comes a second time, and that support is not taken; so
    `supports[k]` need not hold all of `supports[k - 1]`. `first[k]` is the lambda at which it begins:
    infinite for none, 0 for sizes that are never reached, as channels that are zero or a
    combination of others never come in: those are added last, lower numbers first.
    """

    lambdas: Tensor
    coefficients: Tensor
    supports: tuple[tuple[int, ...], ...]
    first: tuple[float, ...]


def path(gram: Tensor, target: Tensor) -> Path:
    """Solutions of min 1/2 b^T gram b - target^T b + lambda ||b||_1 for every lambda >= 0.

    Least angle regression with the LASSO's rule that a factor which comes back to zero is dropped
    (Efron 2004, Annals of Statistics 32). `gram` (c, c) is Z^T Z and `target` (c,) is Z^T y; over the
    number of samples both, lambda is the paper's.

    >>> whole = path(torch.eye(2), torch.tensor([1.0, -3.0]))
    >>> whole.supports, whole.lambdas.tolist()
    (((), (1,), (0, 1)), [3.0, 1.0, 0.0])
    """
    walk = _Walk(gram.double(), target.double())
    walk.whole()
    sizes = [walk.seen[k] for k in range(len(walk.seen))]
    supports = [support for support, _ in sizes]
    rest = [i for i in range(len(target)) if i not in supports[-1]]
    supports += [tuple(sorted((*supports[-1], *rest[:more]))) for more in range(1, len(rest) + 1)]
    first = (*(level for _, level in sizes), *[0.0] * len(rest))
    levels = torch.tensor(walk.levels, dtype=torch.float64)
    return Path(levels, torch.stack(walk.solutions), tuple(supports), first)


class _Walk:
    """Where the path is: all active channels have the same correlation `level` with what is left.

    `lower` is the Cholesky factor of the active channels' Gram matrix, one row for each, and `forward`
    solves lower x = signs: a channel that joins adds a row to both.
    """

    def __init__(self, gram: Tensor, target: Tensor) -> None:
        self.gram, self.target = gram, target
        count = len(target)
        self.active: list[int] = []
        self.signs = torch.zeros(count, dtype=torch.float64)
        self.closed = torch.zeros(count, dtype=torch.bool)  # active, or a combination of those that are
        self.lower = torch.zeros(count, count, dtype=torch.float64)
        self.forward = torch.zeros(count, dtype=torch.float64)
        self.beta = torch.zeros(count, dtype=torch.float64)
        self.left = target  # correlation of each channel with what is left
        self.level = float(target.abs().max())
        self.levels, self.solutions = [self.level], [self.beta]
        self.seen: dict[int, tuple[tuple[int, ...], float]] = {0: ((), torch.inf)}

    def whole(self) -> None:
        end = self.level * END
        joining, dropped = int(self.left.abs().argmax()), -1
        for _ in range(LONGEST * len(self.target)):
            if self.level <= end:
                return
            if joining >= 0:
                self.join(joining)
            joining, dropped = self.step(dropped)

    def join(self, channel: int) -> None:
        """Let a channel in, unless it is a combination of those that are."""
        size, own = len(self.active), self.gram[channel, channel]
        row = torch.linalg.solve_triangular(
            self.lower[:size, :size], self.gram[self.active, channel].unsqueeze(1), upper=False
        ).flatten()
        pivot = own - row @ row
        self.closed[channel] = True
        if pivot <= DEPENDENT * own:
            return
        sign, root = self.left[channel].sign(), pivot.sqrt()
        self.lower[size, :size], self.lower[size, size] = row, root
        self.forward[size] = (sign - row @ self.forward[:size]) / root
        self.active.append(channel)
        self.signs[channel] = sign
        self.seen.setdefault(size + 1, (tuple(sorted(self.active)), self.level))

    def drop(self, channel: int) -> None:
        """Take a channel out whose factor is zero again; what depended on it may come in."""
        self.active.remove(channel)
        self.beta[channel] = self.signs[channel] = 0.0
        self.closed.fill_(False)
        self.closed[self.active] = True
        size = len(self.active)
        lower = torch.linalg.cholesky(self.gram[self.active][:, self.active])
        signs = self.signs[self.active].unsqueeze(1)
        self.lower[:size, :size] = lower
        self.forward[:size] = torch.linalg.solve_triangular(lower, signs, upper=False).flatten()

    def step(self, dropped: int) -> tuple[int, int]:
        """Go to the next breakpoint: (channel that joins there or -1, channel that was dropped or -1)."""
        size = len(self.active)
        towards = torch.zeros_like(self.beta)
        towards[self.active] = torch.linalg.solve_triangular(
            self.lower[:size, :size].T, self.forward[:size].unsqueeze(1), upper=True
        ).flatten()
        falls = self.gram @ towards  # how fast each correlation falls; those of active ones by 1
        until_join = self._until_join(falls, dropped)
        until_zero = torch.where(towards * self.beta < 0, -self.beta / towards, torch.inf)
        joins, zeroes = (float(until.min()) for until in (until_join, until_zero))
        length = min(joins, zeroes, self.level)
        self.beta = self.beta + length * towards
        self.level -= length
        self.left = self.target - self.gram @ self.beta
        gone = -1
        if zeroes <= length:
            gone = int(until_zero.argmin())
            self.drop(gone)
        self.levels.append(self.level)
        self.solutions.append(self.beta)
        return (int(until_join.argmin()) if gone < 0 and joins <= length else -1), gone

    def _until_join(self, falls: Tensor, dropped: int) -> Tensor:
        """How far the level can fall until each channel's correlation, of either sign, is as large."""
        until = torch.full((2, len(falls)), torch.inf, dtype=torch.float64)
        for row, sign in enumerate((1.0, -1.0)):
            closing = 1 - sign * falls
            gap = (self.level - sign * self.left).clamp(min=0.0)
            until[row] = torch.where(closing > 0, gap / closing, torch.inf)
        if dropped >= 0:  # it stands at the level still, and moves inwards from there
            until[0 if self.left[dropped] > 0 else 1, dropped] = torch.inf
        return torch.where(self.closed, torch.inf, until.min(0).values)


# ---------------------------------------------------------------- layers of channels


def of_channels(gram: Tensor, cross: Tensor, weight: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """(Z^T Z, Z^T Y) of what each channel adds to all outputs: (c, c) and (c,), float64.

    `gram` (c * width, c * width), `cross` (c * width, outputs), `weight` (outputs, c * width).
    """
    weight = weight.double()
    both = (weight.T @ weight).mul_(gram)
    ours = both.view(channels, -1, channels, both.shape[0] // channels).sum((1, 3))
    return ours, (cross * weight.T).view(channels, -1).sum(1)


def refit(gram: Tensor, cross: Tensor, weight: Tensor, kept: Sequence[int], channels: int) -> Tensor:
    """The weights (outputs, c * width), float64, of least squared error on the kept channels; else zeros.

    Normal equations with a ridge of RIDGE times the kept inputs' mean square that draws towards the
    given weights: where the data say nothing (channels that are zero, copies, fewer samples than
    inputs), the weights stay what they were, and the error is never larger than theirs.
    """
    width = weight.shape[1] // channels
    columns = (torch.tensor(sorted(kept))[:, None] * width + torch.arange(width)).flatten()
    before = weight.double()[:, columns]
    own = gram[columns][:, columns]
    wanted = cross[columns] - own @ before.T
    ridge = RIDGE * float(own.diagonal().mean())
    own.diagonal().add_(ridge if ridge > 0 else 1.0)
    change = torch.cholesky_solve(wanted, torch.linalg.cholesky(own))
    fitted = torch.zeros(weight.shape, dtype=torch.float64)
    fitted[:, columns] = before + change.T
    return fitted


def relative_error(gram: Tensor, cross: Tensor, energy: float, weight: Tensor) -> float:
    """||Y - X W^T|| / ||Y|| from products alone; `energy` is ||Y||^2. Zero where Y is zero.

    Rounding hides errors below about 1e-8.

    >>> x, y = torch.tensor([[3.0], [4.0]]).double(), torch.tensor([[3.0], [0.0]]).double()
    >>> relative_error(x.T @ x, x.T @ y, 9.0, torch.tensor([[1.0]]).double())
    1.3333333333333333
    """
    weight = weight.double()
    squares = energy - 2 * (cross * weight.T).sum() + ((gram @ weight.T) * weight.T).sum()
    return float((squares.clamp(min=0.0) / energy).sqrt()) if energy > 0 else 0.0
