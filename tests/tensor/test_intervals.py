"""Learned intervals: by hand, gradients against finite differences, and where they begin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.tensor.intervals import Interval, best_clip, transformed


def interval(centre: float, distance: float, scale: float, bits: int) -> Interval:
    module = Interval(torch.ones(3), bits)
    with torch.no_grad():
        for own, value in zip(module.parameters(), (centre, distance, scale), strict=True):
            own.fill_(value)
    return module


def test_an_interval_by_hand() -> None:
    """From 0.25 to 0.75 in three steps of 1: 0.5 is 1.5 steps inside, 0.6 is 2.1, 0.9 is beyond."""
    module = interval(0.5, 0.25, 3.0, 3)
    latent = torch.tensor([0.2, 0.5, -0.9, 0.6], requires_grad=True)
    out = module(latent)
    assert out.tolist() == [0.0, 2.0, -3.0, 2.0]
    (out * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert latent.grad is not None
    assert latent.grad.tolist() == pytest.approx([0.0, 60.0, 0.0, 6000.0])  # 3 steps over a width of 0.5
    found = [float(own.grad) for own in module.parameters() if own.grad is not None]
    centre, distance = -(60 + 6000), 3 * (10 * 0.0 + 1000 * (0.5 - 0.6)) / (2 * 0.25**2)
    assert found == pytest.approx([centre, distance, (2 * 10 - 3 * 100 + 2 * 1000) / 3], rel=1e-4)
    assert torch.equal(module.encode(latent).decode(), out)
    assert module.points() == (0.25, 0.75)


def test_gradients_of_the_transformer_are_finite_differences() -> None:
    values = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = [values, *(torch.tensor(x, dtype=torch.float64) for x in (0.7, 0.4))]
    assert torch.autograd.gradcheck(transformed, [each.requires_grad_() for each in given])


def test_from_zero_to_one_it_is_the_identity() -> None:
    values = torch.linspace(-1, 1, 41)
    half = torch.tensor(0.5)
    assert torch.allclose(transformed(values, half, half), values)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_no_other_clip_point_of_those_that_are_tried_loses_less(bits: int) -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(bits))

    def lost(clip: Tensor, scale: Tensor) -> float:
        top = 2 ** (bits - 1) - 1
        rounded = (transformed(values, clip / 2, clip / 2) * top).round() * scale / top
        return float((values - rounded).square().sum())

    clip, scale = best_clip(values, bits)
    tried = [values.abs().max() * share / 50 for share in range(1, 51)]
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert lost(clip, scale * factor) > lost(clip, scale)
        assert all(lost(other, other * factor) >= lost(clip, scale) - 1e-4 for other in tried)


def test_zeros_alone_and_a_width_below_zero_do_no_harm() -> None:
    assert [float(x) for x in best_clip(torch.zeros(4), 3)] == [1.0, 1.0]
    module = interval(0.5, -1.0, 3.0, 3)
    assert module(torch.tensor([0.4, -0.6, 0.0])).tolist() == [0.0, -3.0, 0.0]
