"""Ternary weights: the exact optimum against a search of everything, and numbers by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.tensor.granularity import TENSOR, per_axis
from engine.tensor.ternary import ternarize


def noise(values: torch.Tensor, exact: bool = True) -> float:
    return float((ternarize(values, TENSOR, exact)[0].decode().double() - values).square().sum())


def least_noise(values: torch.Tensor) -> float:
    """Of every number of weights that stay, with the scale of least squares for it."""
    falling = values.double().abs().flatten().sort(descending=True).values
    every = [float((falling**2).sum())]
    for count in range(1, len(falling) + 1):
        scale = falling[:count].mean()
        every.append(float(((falling[:count] - scale) ** 2).sum() + (falling[count:] ** 2).sum()))
    return min(every)


@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12))
def test_no_other_threshold_and_scale_lose_less(numbers: list[float]) -> None:
    values = torch.tensor(numbers)
    assert noise(values) == pytest.approx(least_noise(values), rel=1e-5, abs=1e-6)


def test_each_output_has_its_own_optimum() -> None:
    values = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    levels, _ = ternarize(values, per_axis(0))
    lost = (levels.decode().double() - values).square().sum(1)
    assert lost.tolist() == pytest.approx([least_noise(row) for row in values], rel=1e-5)


def test_the_papers_rule_by_hand() -> None:
    """The mean magnitude is 2, so weights above 1.4 stay, and their mean is 3."""
    levels, threshold = ternarize(torch.tensor([4.0, -2.0, 1.0, 1.0]), TENSOR, exact=False)
    assert threshold.tolist() == pytest.approx([1.4])
    assert levels.decode().tolist() == [3.0, -3.0, 0.0, 0.0]


def test_on_normal_weights_the_optimum_is_a_little_above_the_rule() -> None:
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    mean = float(values.abs().mean())
    assert float(ternarize(values)[1]) / mean == pytest.approx(0.766, abs=0.02)
    assert noise(values) / len(values) == pytest.approx(0.1906, abs=0.002)
    assert noise(values) < noise(values, exact=False)


def test_entropy_of_normal_weights_is_less_than_log2_of_three_bits() -> None:
    """2 bits at fixed width, a mask and signs under Huffman, and about 1.58 under an ideal coder."""
    values = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(2))
    levels, _ = ternarize(values)
    zeros = float((levels.codes == 0).double().mean())
    written = 8 * sum(len(data) for *_, data in levels.sections()) / values.numel()
    assert levels.fixed_bits() == 2 * values.numel() + 32
    assert levels.huffman_bits() / values.numel() <= 2 - max(zeros, (1 - zeros) / 2) + 0.001  # mask + sign
    assert 1.5 < levels.entropy_bits() / values.numel() < 1.59
    assert 1.5 < written < 1.61


def test_only_zeros_stay_zeros() -> None:
    levels, threshold = ternarize(torch.zeros(2, 3), per_axis(0))
    assert levels.decode().count_nonzero() == 0
    assert threshold.tolist() == [0.0, 0.0]
