"""Low rank for the outputs: the pieces of a layer's matrix, in the order in which its outputs need them.

With inputs x of the covariance C = E[x x^T], the matrix A of rank r nearest to M is the one with the least
E|Mx - Ax|^2 = |(M - A) C^(1/2)|^2: the metric is whitened by C. Let U hold the left singular vectors of
M C^(1/2); then A = U_r U_r^T M is one of the best (Eckart and Young 1936). These are the principal directions
of the outputs (Zhang 2015, arXiv 1505.06798), so that neither C nor an inverse of it is needed, and inputs
that were never seen do no harm: of all that are as good, A is the one that is nearest to M.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.tensor.factors import Decomposition, matrix

FORMS = ("linear", "channel")  # whose matrix has the layer's outputs as rows
ROUNDED = 1e-6  # of the largest value: less is what 32-bit floats make of nothing


def decompose(weight: Tensor, form: str, outputs: Tensor) -> Decomposition:
    """The pieces of a weight by what they do to the layer's `outputs` (points, rows), without its bias.

    `values` are the root mean squares of the outputs along the columns of `left`, falling. Directions in
    which all outputs are zero come last, in the order in which the weights need them.

    >>> weight = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    >>> inputs = torch.tensor([[0.1, 0.0], [0.0, 10.0]])  # the small weight is the one that counts
    >>> parts = decompose(weight, "linear", inputs @ weight.T)
    >>> parts.left[:, 0].abs().tolist(), parts.scales.tolist()
    ([0.0, 1.0], [1.0, 3.0])
    """
    laid = matrix(weight.detach().double(), form)
    triangle = torch.linalg.qr(outputs.double() / max(len(outputs), 1) ** 0.5, mode="r").R
    _, values, right = torch.linalg.svd(triangle, full_matrices=False)
    full = min(laid.shape)
    seen = min(int((values > ROUNDED * values[0]).sum()), full) if len(values) else 0
    left = right[:seen].T
    if seen < full:
        unseen = laid - left @ (left.T @ laid)
        left = torch.cat([left, torch.linalg.svd(unseen, full_matrices=False).U[:, : full - seen]], 1)
    pieces = left.T @ laid
    scales = pieces.norm(dim=1)
    values = torch.cat([values[:seen], values.new_zeros(full - seen)])
    unit = pieces / scales.clamp(min=torch.finfo(torch.float64).tiny).unsqueeze(1)
    return Decomposition(left, scales, unit, values, tuple(weight.shape), form)


def output_error(parts: Decomposition, rank: int, outputs: Tensor) -> float:
    """How far a rank's outputs are from these (points, rows), over their norm; NaN where there are none.

    For both kinds of decomposition: what is left of a matrix is what its first left vectors span.

    >>> parts = decompose(torch.eye(2), "linear", torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    >>> output_error(parts, 1, torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    0.6
    """
    if not len(outputs):
        return math.nan
    left, wanted = parts.left[:, :rank], outputs.double()
    norm = float(wanted.norm())
    return float((wanted - wanted @ left @ left.T).norm()) / norm if norm > 0 else 0.0
