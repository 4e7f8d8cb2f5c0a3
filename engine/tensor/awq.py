"""AWQ's factors: inputs that are large get weights that are rounded more finely.

Lin 2023, AWQ: Activation-aware Weight Quantization, arXiv 2306.00978, section 3.2. Weights, rows and a way to
round in, factors out; where the rows come from, and who takes the factors up, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 20  # alphas between 0 and 1 that are tried
LEAST = 1e-4  # the size that an input counts for at least


class Found(NamedTuple):
    """The factors of least output error, and the error of every alpha: (inputs,), and (STEPS + 1,)."""

    alpha: float
    factor: Tensor
    errors: Tensor


def factors(sizes: Tensor, alpha: float) -> Tensor:
    """What each input's weights are multiplied with before they are rounded: size^alpha, centred on 1.

    `sizes` is the mean of |x| of each input: (inputs,). Largest times smallest factor is 1, as nearly as may
    be: what divides them again, 1 / factor, has 16 bits (bfloat16).

    >>> factors(torch.tensor([1.0, 16.0]), 0.5).tolist(), factors(torch.tensor([1.0, 16.0]), 0.0).tolist()
    ([0.5, 2.0], [1.0, 1.0])
    """
    powers = sizes.double().clamp(min=LEAST) ** alpha
    inverse = ((powers.max() * powers.min()).sqrt() / powers).to(torch.bfloat16)
    return 1 / inverse.float()


def over(factor: Tensor, weight: Tensor) -> Tensor:
    """One factor for each input (axis 1), in a shape that multiplies the weight."""
    return factor.reshape(-1, *[1] * (weight.dim() - 2))


def sizes_of(rows: Tensor, inputs: int) -> Tensor:
    """The mean of |x| of each input over rows (points, inputs * kernel): (inputs,).

    >>> sizes_of(torch.tensor([[1.0, -3.0, 0.0, 0.0], [1.0, 3.0, 0.0, 4.0]]), 2).tolist()
    [2.0, 1.0]
    """
    return rows.abs().mean(0).reshape(inputs, -1).mean(1)


def searched(weights: Sequence[Tensor], rows: Tensor, rounded: Callable[[Tensor], Tensor]) -> Found:
    """The factors with the least squared output error, of `STEPS` + 1 alphas from 0 to 1.

    `weights` (outputs, inputs, ...) all read the same `rows` (points, inputs * kernel) and share the factors.
    `rounded` gives the values that a scaled weight is rounded to; they are divided by the factors again.
    Alpha 0 is rounding without factors. Of equals the smallest alpha is taken.
    """
    x = rows.double()
    gram = (x.T @ x).float()
    sizes = sizes_of(rows, weights[0].shape[1])
    errors = torch.zeros(STEPS + 1, dtype=torch.float64)
    for step in range(STEPS + 1):
        factor = factors(sizes, step / STEPS)
        for weight in weights:
            own = over(factor, weight)
            off = (rounded(weight * own) / own - weight).flatten(1)
            errors[step] += ((off @ gram) * off).double().sum()
    best = int(errors.argmin())
    return Found(best / STEPS, factors(sizes, best / STEPS), errors)
