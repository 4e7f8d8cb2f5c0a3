"""Rounded mantissas: what is left is the nearest such number, and infinities are never made."""

from __future__ import annotations

import doctest

import pytest
import torch

from engine.tensor import mantissas


def test_docstring_examples_hold() -> None:
    failed, tried = doctest.testmod(mantissas)
    assert (failed, tried > 0) == (0, True)


def test_seven_bits_are_bfloat16_where_nothing_lies_in_the_middle() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mantissas.rounded(values, 7), values.to(torch.bfloat16).float())


@pytest.mark.parametrize("bits", [0, 1, 5, 12, 22, 23])
def test_the_error_is_half_a_step_at_most(bits: int) -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(bits))
    off = ((mantissas.rounded(values, bits) - values).double() / values.double()).abs()
    assert float(off.max()) <= 2.0 ** -(bits + 1) * (bits < 23)


def test_the_largest_number_stays_finite_and_signs_of_zero_stay() -> None:
    ends = torch.tensor([torch.finfo(torch.float32).max, -0.0, 0.0])
    assert torch.equal(mantissas.rounded(ends, 3).view(torch.int32), ends.view(torch.int32))
