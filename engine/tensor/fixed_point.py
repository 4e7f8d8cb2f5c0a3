"""Integer arithmetic of quantized layers: 32-bit sums, and their rescaling without a float.

Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, arXiv 1712.05877, sections 2.2 to 2.4. Integers are held as int64 and checked or wrapped to
the width that the text says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.types import SlimscopeError

WORD = 2**31  # a 32-bit sum lies from -WORD to WORD - 1
LONGEST = 62  # places of a right shift; a product of 32 bits and 31 bits is below 2^62


def fixed_multiplier(real: Tensor) -> tuple[Tensor, Tensor]:
    """(mantissa, shift), int64: `real` is about mantissa / 2^shift, with mantissas from 2^30 to 2^31 - 1.

    Raises SlimscopeError for a multiplier that is not above 0, or too large to be one.

    >>> fixed_multiplier(torch.tensor([0.5, 0.0072474273418460]))
    (tensor([1073741824, 1992157696]), tensor([31, 38]))
    """
    if not bool((real > 0).all()) or bool((real >= 2**30).any()):
        raise SlimscopeError(
            f"a multiplier lies between {float(real.min()):.3g} and {float(real.max()):.3g}: allowed are "
            "numbers above 0 and below 2^30"
        )
    fraction, exponent = torch.frexp(real.double())
    mantissa, shift = (fraction * WORD).round().long(), 31 - exponent.long()
    full = mantissa == WORD  # rounded up to 1: half of it, twice
    return torch.where(full, WORD // 2, mantissa), torch.where(full, shift - 1, shift)


def rescaled(sums: Tensor, mantissa: Tensor, shift: Tensor) -> Tensor:
    """`sums` * mantissa / 2^shift, rounded to the nearest integer, halves away from zero: int64.

    Exact for 32-bit sums: the product has at most 62 bits.

    >>> rescaled(torch.tensor([3, -3, 2]), *fixed_multiplier(torch.tensor(0.5))).tolist()
    [2, -2, 1]
    """
    places = shift.clamp(max=LONGEST)
    half = torch.ones_like(places) << (places - 1)
    size = (sums.abs() * mantissa + half) >> places
    return sums.sign() * torch.where(shift > LONGEST, 0, size)


def wrapped(sums: Tensor) -> Tensor:
    """Sums as a 32-bit register holds them: those beyond its ends come back at the other.

    >>> wrapped(torch.tensor([2**31 - 1, 2**31])).tolist()
    [2147483647, -2147483648]
    """
    return (sums + WORD) % (2 * WORD) - WORD


def linear_sums(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Integers (n, in) times (out, in), and a bias (out,): 32-bit sums (n, out)."""
    return wrapped((x.double() @ weight.double().T).long() + bias)


def convolution_sums(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Integers (n, in, ...) convolved with (out, in / groups, ...), and a bias (out,): 32-bit sums.

    One to three dimensions; places beyond the edge are zeros. Float64 holds such sums exactly.
    """
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
    sums = convolve(x.double(), weight.double(), None, *map(tuple, (stride, padding, dilation)), groups)
    return wrapped(sums.long() + bias.view(-1, *[1] * (weight.dim() - 2)))


def largest_sum(weight: Tensor, bias: Tensor, largest_input: int) -> int:
    """How far a sum of any inputs may lie from zero: sum |w| * max |x| + |bias|, of the worst output.

    >>> largest_sum(torch.tensor([[3, -4]]), torch.tensor([5]), 255)
    1790
    """
    sizes = weight.reshape(len(weight), -1).abs().sum(1)
    return int((sizes * largest_input + bias.abs()).max())
