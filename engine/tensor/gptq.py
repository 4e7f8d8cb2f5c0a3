"""GPTQ's rounding of one layer: column by column, each one's error carried to those not yet rounded.

Frantar 2022, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, arXiv
2210.17323, section 3. Rows and weights in, codes out; where the rows come from is not known here.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128  # columns whose errors reach the columns behind them in one product


def hessian(rows: Tensor, damping: float) -> Tensor:
    """What squared output error is curved by, alike for each output: (inputs, inputs), float64.

    2 X^T X over the `rows` X (points, inputs), finite, with `damping` > 0 times the mean of its diagonal
    added to that, so that it has an inverse; the identity where all rows are zero.

    >>> hessian(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), 0.5).tolist()
    [[3.5, 2.0], [2.0, 5.5]]
    """
    x = rows.double()
    curved = 2 * x.T @ x
    curved.diagonal().add_(float(curved.diagonal().mean()) * damping or 1.0)
    return curved


def inverse_factor(hessian: Tensor) -> Tensor:
    """The upper U with H^-1 = U^T U, which is Cholesky's factor of the inverse: (inputs, inputs).

    From its row q on, U^T U is the inverse of H for the columns from q on: those that are not yet rounded.

    >>> inverse_factor(torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)).tolist()
    [[1.0, -1.0], [0.0, 1.0]]
    """
    upper = torch.linalg.cholesky(hessian.flip(0, 1)).flip(0, 1)  # H = R R^T, so that U is R's inverse
    unit = torch.eye(len(hessian), dtype=hessian.dtype)
    factor: Tensor = torch.linalg.solve_triangular(upper, unit, upper=True)
    return factor


def rounded(
    weight: Tensor, scale: Tensor, zero: Tensor, ends: tuple[int, int], hessian: Tensor, ordered: bool = False
) -> Tensor:
    """Codes int32 (outputs, inputs) from `ends[0]` to `ends[1]`, on a grid that stays as it is.

    `weight`, `scale` (float32) and `zero` (int32) are (outputs, inputs), `hessian` (inputs, inputs) in
    float64. Column q goes to its nearest levels, and the columns F that are left make up for the error:
    w_F -= (w_q - rounded w_q) / [H^-1]_qq * [H^-1]_qF, with H^-1 the inverse over the columns that were left
    (optimal brain surgeon). Columns go from left to right, or `ordered`: those of largest H_qq first. A
    weight that is exactly zero stays so, and what it was to make up for goes on to those behind it.

    Of two inputs that come together, as in this Hessian, the first weight goes up by 0.4, so the second,
    which the nearest level would raise as well, becomes 0.6 - 0.4 / 2 and goes down:

    >>> weight, ones = torch.tensor([[0.6, 0.6]]), torch.ones(1, 2)
    >>> together = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> rounded(weight, ones, torch.zeros(1, 2, dtype=torch.int32), (-1, 1), together).tolist()
    [[1, 0]]
    """
    inputs = weight.shape[1]
    order = hessian.diagonal().argsort(descending=True, stable=True) if ordered else torch.arange(inputs)
    factor = inverse_factor(hessian[order][:, order])
    scale, zero, alive = scale[:, order], zero[:, order], weight[:, order] != 0
    left = weight[:, order].double()
    codes = torch.empty_like(zero)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = torch.empty_like(left[:, start:end])
        for column in range(start, end):
            step, shift = scale[:, column], zero[:, column]
            code = ((left[:, column].float() / step).round() + shift).clamp(*ends).to(torch.int32)
            codes[:, column] = code = torch.where(alive[:, column], code, shift)
            error = (left[:, column] - (code - shift).float() * step) / factor[column, column]
            left[:, column:end] -= torch.outer(error, factor[column, column:end])
            errors[:, column - start] = error
        left[:, end:] -= errors @ factor[start:end, end:]
    return codes[:, order.argsort()]
