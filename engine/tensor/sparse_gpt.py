"""SparseGPT's pruning of one layer: column by column, what goes is made up for by the columns behind it.

Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, arXiv
2301.00774, section 3. The Hessian and the factor of its inverse are GPTQ's (`engine.tensor.gptq`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.tensor.gptq import BLOCK, inverse_factor
from engine.tensor.masks import by_pattern, by_score
from engine.types import SlimscopeError


def pruned(
    weight: Tensor,
    hessian: Tensor,
    sparsity: float,
    pattern: tuple[int, int] | None = None,
    update: bool = True,
) -> Tensor:
    """The weight (outputs, inputs) in float32 with a share of zeros, or with N of each M in a row left.

    `hessian` (inputs, inputs) is `gptq.hessian`'s. Columns go from left to right in blocks of 128. On
    reaching a block (or, with a `pattern` (n, m), M columns) it is chosen which of its weights go: those of
    smallest w_q^2 / [H^-1]_qq, with H^-1 the inverse over the columns that are left, and w_q as it is by
    then. What goes is made up for as in GPTQ: w_F -= w_q / [H^-1]_qq * [H^-1]_qF. Without `update` the same
    weights would be chosen one by one, and none of the others moves. Weights that are exactly zero count as
    removed and stay so.

    Raises SlimscopeError where the inputs are no multiple of M, or N is not within 1 to M.

    Of two inputs that come together the smaller weight goes, and the other takes up half of it:

    >>> together = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> pruned(torch.tensor([[0.4, 1.0]]), together, 0.5).tolist()
    [[0.0, 1.2...]]
    """
    n, m = pattern or (0, BLOCK)
    inputs = weight.shape[1]
    if pattern is not None and (not 1 <= n <= m or inputs % m):
        raise SlimscopeError(
            f"{n} of each {m} in a row of {inputs} inputs: allowed are 1 to m of an m that divides them"
        )
    factor, left, alive = inverse_factor(hessian), weight.double(), weight != 0
    for start in range(0, inputs, m):
        end = min(start + m, inputs)
        part, own = left[:, start:end].clone(), factor[start:end, start:end]
        worth = part.square() / own.diagonal().square()
        present = torch.where(alive[:, start:end], part, 0.0)
        stays = by_pattern(present, worth, n, m) if pattern else by_score(present, worth, sparsity)
        errors = torch.zeros_like(part)
        for column in range(end - start):
            gone = torch.where(stays[:, column], 0.0, part[:, column])
            errors[:, column] = gone / own[column, column] if update else 0.0
            part[:, column:] -= torch.outer(errors[:, column], own[column, column:])
        left[:, start:end] = torch.where(stays, part, 0.0)
        left[:, end:] -= errors @ factor[start:end, end:]
    return left.float()
