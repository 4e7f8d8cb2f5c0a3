"""Scores: what each weight is worth. The higher, the longer it stays when a net is pruned.

Tensors in, tensors out; gradients and curvatures are given. No score is negative, and a weight that
is zero already is worth 0. How single scores become those of whole filters or blocks, and
which go, is for `engine.tensor.masks`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """|w| (Han 2015, arXiv 1506.02626): any shape -> the same shape.

    Over whole filters, `engine.tensor.masks` makes of it their L1 norm (Li 2017) or their L2 norm.
    """
    return weight.detach().abs()


def chance(weight: Tensor, seed: int) -> Tensor:
    """A random number in (0, 1) for each weight that is not zero: the control that a score must beat.

    float64, so that equal ones are rare; the same seed and shape give the same numbers.
    """
    drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.where(weight != 0, 1 - drawn, 0.0)


def taylor(weight: Tensor, gradient: Tensor) -> Tensor:
    """|g w|: how much the loss changes without the weight, to first order (Molchanov 2017, arXiv 1611.06440).

    `gradient` (the weight's shape) is that of the mean loss.

    >>> taylor(torch.tensor([2.0, -0.5]), torch.tensor([0.1, 4.0])).tolist()
    [0.2..., 2.0]
    """
    return (gradient * weight.detach()).abs()


def brain_damage(weight: Tensor, curvature: Tensor) -> Tensor:
    """h w^2 / 2: how much the loss grows without the weight, to second order (LeCun 1989).

    `curvature` (the weight's shape, not negative) is the diagonal of the loss's second derivatives.
    It takes the loss to be at a minimum and the weights not to act on each other: then it is exact.

    >>> brain_damage(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])).tolist()
    [1.0, 1.5]
    """
    return curvature * weight.detach().square() / 2


def normal_scale(weight: Tensor, scale: Tensor) -> Tensor:
    """|gamma| of the batch-norm behind a layer, for each weight of its filter (Liu 2017, arXiv 1708.06519).

    `scale` has one number per filter: (rows of the weight,). Weights that are zero score 0.

    >>> normal_scale(torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([-0.5, 2.0])).tolist()
    [[0.5, 0.0], [2.0, 2.0]]
    """
    per_filter = scale.detach().abs().reshape(-1, *[1] * (weight.dim() - 1))
    return torch.where(weight != 0, per_filter, 0.0)


def wanda(weight: Tensor, norms: Tensor) -> Tensor:
    """|w| times the L2 norm of what the weight is multiplied with (Wanda: Sun 2023, arXiv 2306.11695).

    `norms` has one number for each weight of a row: (inputs * kernel,), not negative. Meant for weights of
    one output to compete with each other (`allocation` row of `engine.tensor.masks`).

    >>> wanda(torch.tensor([[2.0, -1.0]]), torch.tensor([0.5, 3.0])).tolist()
    [[1.0, 3.0]]
    """
    return weight.detach().abs() * norms.reshape(weight.shape[1:])
