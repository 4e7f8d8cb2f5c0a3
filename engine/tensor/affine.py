"""Affine grids as arithmetic: range of codes, scale and zero point of a range, rounding with a gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def round_through(x: Tensor) -> Tensor:
    """Rounded values whose gradient is that of x (straight-through, Bengio 2013, arXiv 1308.3432).

    The sum is exact: `round(x) - x` and its sum with x are floats for every finite x.
    """
    return x + (torch.round(x) - x).detach()


def code_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """Smallest and largest code: symmetric -(2^(b-1)-1)..2^(b-1)-1, asymmetric 0..2^b-1.

    One symmetric bit is the pair -1, +1 (sign times scale).

    >>> code_range(8, True), code_range(8, False), code_range(1, True)
    ((-127, 127), (0, 255), (-1, 1))
    """
    if symmetric:
        top = max(2 ** (bits - 1) - 1, 1)
        return -top, top
    return 0, 2**bits - 1


def affine_from_range(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """(scale, zero point) of the grid over [low, high], widened to hold 0 exactly (Jacob 2018).

    Shapes follow `low` and `high`. A range of width zero gives scale 1, so that nothing
    divides by zero and zeros stay zeros.
    """
    bottom, top = code_range(bits, symmetric)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    if symmetric:
        scale = torch.maximum(-low, high) / top
        return torch.where(scale > 0, scale, 1.0), torch.zeros_like(scale)
    scale = (high - low) / (top - bottom)
    scale = torch.where(scale > 0, scale, 1.0)
    return scale, torch.round(-low / scale).clamp(bottom, top)


def stored_affine(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point as they are kept; float64 inside, or a wide float32 range overflows."""
    scale, zero = affine_from_range(low.double(), high.double(), bits, symmetric)
    # A range so narrow that its step is no float32 would divide by zero.
    scale = scale.to(torch.float32).clamp(min=torch.finfo(torch.float32).tiny)
    return scale, zero.to(torch.int32)
