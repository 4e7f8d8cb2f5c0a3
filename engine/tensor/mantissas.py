"""Floats with fewer bits behind the point: sign and exponent stay, the mantissa is rounded."""

from __future__ import annotations

import torch
from torch import Tensor

FULL = 23  # bits of the mantissa of a 32-bit float


def rounded(values: Tensor, bits: int) -> Tensor:
    """Float32 values with `bits` of the mantissa, 0 to 23, the others zero: off by at most 2^-(bits + 1).

    Halves go away from zero. What would round to infinity stays as it is, and so do zeros.

    >>> rounded(torch.tensor([1.3, -1.3, 0.0]), 2).tolist()
    [1.25, -1.25, 0.0]
    """
    step = 1 << (FULL - bits)
    patterns = values.detach().contiguous().view(torch.int32)
    near = ((patterns + step // 2) & -step).view(torch.float32)
    return torch.where(near.isfinite(), near, values)
