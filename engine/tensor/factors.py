"""Low rank: a weight as a matrix, its singular values, and its two thin factors.

A form says how a kernel is laid out as a matrix. `linear`: outputs x inputs. `channel`:
outputs x (inputs * kh * kw), which splits into a full kernel with few outputs and a 1x1 one
(Zhang 2015). `spatial`: (inputs * kh) x (outputs * kw), which splits into a column kernel and a
row kernel (Jaderberg 2014, scheme 2). Nothing here knows of nets; tensors in, tensors out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.memory import remembered_of
from engine.types import SlimscopeError

Shape = tuple[int, ...]

FORMS = ("linear", "channel", "spatial")


def matrix_shape(shape: Shape, form: str) -> tuple[int, int]:
    """(rows, columns) of a weight of that shape in that form.

    Raises SlimscopeError where form and shape do not go together.

    >>> matrix_shape((8, 3, 5, 5), "channel"), matrix_shape((8, 3, 5, 5), "spatial")
    ((8, 75), (15, 40))
    """
    match form, shape:
        case "linear", (outputs, inputs):
            return outputs, inputs
        case "channel", (outputs, inputs, kh, kw):
            return outputs, inputs * kh * kw
        case "spatial", (outputs, inputs, kh, kw):
            return inputs * kh, outputs * kw
    if form not in FORMS:
        raise SlimscopeError(f"form is {form!r}: allowed is one of {', '.join(FORMS)}")
    wanted = "2 dimensions" if form == "linear" else "4 dimensions"
    raise SlimscopeError(f"form {form!r} needs a weight of {wanted}, got shape {tuple(shape)}")


def matrix(weight: Tensor, form: str) -> Tensor:
    """The weight as the matrix that is factored: (rows, columns) of `matrix_shape`."""
    size = matrix_shape(tuple(weight.shape), form)
    laid = weight.permute(1, 2, 0, 3) if form == "spatial" else weight  # (I, kh, O, kw)
    return laid.reshape(size)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A weight's matrix as a sum of rank-one pieces, once; every rank is a slice of it.

    Piece i is `scales[i]` times column i of `left` (rows, full rank) times row i of `right` (full rank,
    columns), both of length 1. `values` (full rank,) falling say how much each is worth: in a singular value
    decomposition they are the scales. All float64.
    """

    left: Tensor
    scales: Tensor
    right: Tensor
    values: Tensor
    shape: Shape
    form: str

    @property
    def full_rank(self) -> int:
        return len(self.values)


def decompose(weight: Tensor, form: str) -> Decomposition:
    """Singular value decomposition of the weight's matrix, in float64; remembered for the same tensor.

    A slider asks for every rank of the same weight. What is remembered goes with the tensor, and holds
    only for the version of it that was decomposed.
    """

    def make() -> Decomposition:
        left, values, right = torch.linalg.svd(matrix(weight.detach().double(), form), full_matrices=False)
        return Decomposition(left, values, right, values, tuple(weight.shape), form)

    return remembered_of(weight, f"pieces {form}", make)


def spectrum(weight: Tensor, form: str) -> Tensor:
    """Singular values alone, falling, float64.

    >>> spectrum(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "linear").tolist()
    [4.0, 3.0]
    """
    values: Tensor = torch.linalg.svdvals(matrix(weight.detach().double(), form))
    return values


def halves(parts: Decomposition, rank: int) -> tuple[Tensor, Tensor]:
    """(first, second) weights, float32, in the layouts of `surgery.split`'s two layers.

    linear: (r, I), (O, r). channel: (r, I, kh, kw), (O, r, 1, 1). spatial: (r, I, kh, 1), (O, r, 1, kw).
    Each takes the square root of the scales, so that both have the same spread.
    Raises SlimscopeError for a rank outside of 1..full rank.
    """
    if not 1 <= rank <= parts.full_rank:
        raise SlimscopeError(f"rank is {rank}: allowed is 1 to {parts.full_rank} for shape {parts.shape}")
    root = parts.scales[:rank].sqrt()
    left = (parts.left[:, :rank] * root).to(torch.float32)  # (rows, r)
    right = (parts.right[:rank] * root.unsqueeze(1)).to(torch.float32)  # (r, columns)
    match parts.form, parts.shape:
        case "channel", (outputs, inputs, kh, kw):
            return right.reshape(rank, inputs, kh, kw), left.reshape(outputs, rank, 1, 1)
        case "spatial", (outputs, inputs, kh, kw):
            second = right.reshape(rank, outputs, kw).transpose(0, 1)
            return left.T.reshape(rank, inputs, kh, 1), second.reshape(outputs, rank, 1, kw)
    return right.contiguous(), left.contiguous()


def piece(parts: Decomposition, number: int) -> Tensor:
    """Rank-one piece `number` (from 1) of the matrix: (rows, columns), float32; all pieces add up to it.

    >>> parts = decompose(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "linear")
    >>> piece(parts, 1).abs().tolist(), piece(parts, 2).abs().tolist()
    ([[0.0, 0.0], [0.0, 4.0]], [[3.0, 0.0], [0.0, 0.0]])
    """
    at = number - 1
    return (parts.scales[at] * torch.outer(parts.left[:, at], parts.right[at])).to(torch.float32)


def split(weight: Tensor, form: str, rank: int) -> tuple[Tensor, Tensor]:
    """The best two factors of that rank (Eckart and Young 1936): `halves` of `decompose`."""
    return halves(decompose(weight, form), rank)


def join(first: Tensor, second: Tensor, form: str) -> Tensor:
    """The one weight that does what the two do in a row: the inverse of `split` at full rank."""
    rank = len(first)
    match form:
        case "channel":
            whole = second.reshape(-1, rank) @ first.reshape(rank, -1)
            return whole.reshape(len(second), *first.shape[1:])
        case "spatial":
            return torch.einsum("rih,orw->oihw", first[..., 0], second[:, :, 0])
    return second @ first


def break_even(shape: Shape, form: str) -> float:
    """The rank at which two factors have as many weights as the one: mn / (m + n).

    >>> break_even((300, 100), "linear")
    75.0
    """
    rows, columns = matrix_shape(shape, form)
    return rows * columns / (rows + columns)


def weights_at(shape: Shape, form: str, rank: int) -> int:
    """Weights of the two factors: rank * (m + n)."""
    return rank * sum(matrix_shape(shape, form))


def energy(values: Tensor, rank: int) -> float:
    """Share of the sum of squared singular values in the first `rank`; 1 for a weight of zeros."""
    squares = values.double().square()
    total = float(squares.sum())
    return float(squares[:rank].sum()) / total if total > 0 else 1.0


def relative_error(values: Tensor, rank: int) -> float:
    """Frobenius norm of what a rank leaves out, over that of the whole (Eckart and Young 1936).

    >>> relative_error(torch.tensor([4.0, 3.0]), 1)
    0.6
    """
    squares = values.double().square()
    total = float(squares.sum())
    return float((squares[rank:].sum() / total).sqrt()) if total > 0 else 0.0


def rank_for_energy(values: Tensor, share: float) -> int:
    """The smallest rank, at least 1, that keeps `share` (0..1) of the energy.

    >>> rank_for_energy(torch.tensor([4.0, 3.0]), 0.64), rank_for_energy(torch.tensor([4.0, 3.0]), 0.65)
    (1, 2)
    """
    kept = np.cumsum(values.double().square().numpy())
    return min(int(np.searchsorted(kept, share * kept[-1])) + 1, len(kept))


def rank_for_share(shape: Shape, form: str, share: float) -> int:
    """The largest rank, at least 1, whose factors have at most `share` of the weights.

    >>> rank_for_share((300, 100), "linear", 0.5)
    37
    """
    return max(1, min(int(share * break_even(shape, form) + 1e-9), *matrix_shape(shape, form)))
