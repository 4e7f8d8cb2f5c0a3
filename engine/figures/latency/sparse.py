"""Linear layers in compressed sparse rows, and from which share of zeros on they gain time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from engine.figures.latency import stopwatch
from engine.types import Basis, Figure

SHARES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)  # of zeros, at which a layer is tried in CSR


class SparseLinear(nn.Module):
    """A linear layer whose weight (out, in) is kept in compressed sparse rows with 32-bit indices.

    `F.linear` takes such a weight too, but through a kernel that is up to 30 times as slow.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.before = getattr(layer, "input_quantizer", nn.Identity())
        self.weight, self.bias = compressed(layer.weight), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., out) of inputs (..., in); each place of a text is a row of its own."""
        x = self.before(x)
        y = times_sparse(self.weight, x.flatten(0, -2)).reshape(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def compressed(weight: Tensor) -> Tensor:
    """A matrix in compressed sparse rows: a 4-byte value and a 4-byte column a non-zero weight."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is called beta
        sparse = weight.to_sparse_csr()
        rows, columns = sparse.crow_indices().int(), sparse.col_indices().int()
        return torch.sparse_csr_tensor(rows, columns, sparse.values(), weight.shape, check_invariants=True)


def times_sparse(weight: Tensor, x: Tensor) -> Tensor:
    """Inputs (n, in) times a compressed weight (out, in): (n, out). One sample has a kernel of its own."""
    return torch.mv(weight, x[0])[None] if len(x) == 1 else torch.mm(weight, x.t()).t()


def break_even(weight: Tensor, batch: int) -> Figure | None:
    """Share of zeros above which a matrix (out, in) of this size is faster in CSR; None up to 99.5 %.

    Measured with zeros at random places and `SHARES` of them, each beside the dense matrix. The
    spread is the pair of shares between which the medians cross, the value lies on the line
    between them; below 50 % nothing is measured.
    """
    rng = torch.Generator().manual_seed(0)
    order = torch.rand(weight.shape, generator=rng)
    x, values = (
        torch.randn(batch, weight.shape[1], generator=rng),
        torch.randn(weight.shape, generator=rng),
    )
    sparse = [compressed(values * (order >= share)) for share in SHARES]
    calls = [
        partial(nn.functional.linear, x, values),
        *(partial(times_sparse, matrix, x) for matrix in sparse),
    ]
    dense, *others = stopwatch.timed(calls, stopwatch.REPEATS).median(0).values.tolist()
    return crossing(dense, others)


def crossing(dense: float, sparse: Sequence[float]) -> Figure | None:
    """Where the times at `SHARES` fall below the dense one and stay there; None where they never do.

    >>> found = crossing(10, [40, 20, 12, 8, 6, 5, 4])
    >>> round(found.value, 3), found.spread
    (0.925, (0.9, 0.95))
    """
    slow = [i for i, taken in enumerate(sparse) if taken >= dense]
    last = slow[-1] if slow else -1
    if last == len(SHARES) - 1:
        return None
    how = f"a layer of this size with random zeros, at {len(SHARES)} shares of them from 50 % to 99.5 %"
    if last < 0:
        return Figure("CSR break-even", SHARES[0], "share", Basis.MEASURED, how, (0.0, SHARES[0]))
    low, high = SHARES[last], SHARES[last + 1]
    way = (sparse[last] - dense) / (sparse[last] - sparse[last + 1])
    return Figure("CSR break-even", low + way * (high - low), "share", Basis.MEASURED, how, (low, high))
