"""Rounding to steps that learn: many values at once are rounded, and teach, as a few are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.tensor.formats import stepped as module
from engine.tensor.formats.stepped import stepped

SHAPE = (4, 16, 12, 12)


def run(values: Tensor, step: float, ends: tuple[int, int], grads: Tensor) -> tuple[Tensor, ...]:
    """What the values become, their gradients and the step's."""
    values, size = values.clone(memory_format=torch.preserve_format).requires_grad_(), torch.tensor([step])
    size.requires_grad_()
    bottom, top = (torch.tensor(float(end)) for end in ends)
    rounded = stepped(values, size, bottom, top, torch.tensor(0.5))
    rounded.backward(grads)
    assert values.grad is not None
    assert size.grad is not None
    return rounded.detach(), values.grad, size.grad


def by_torch(*args: object) -> tuple[Tensor, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MANY", 10**9)
        return run(*args)  # type: ignore[arg-type]


@given(
    st.integers(0, 1000),
    st.floats(1e-3, 2.0),
    st.sampled_from([(-4, 3), (0, 7), (-128, 127), (0, 1)]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@settings(max_examples=40, deadline=None)
def test_many_values_are_rounded_as_few_and_teach_the_same(
    seed: int, step: float, ends: tuple[int, int], layout: torch.memory_format
) -> None:
    random = torch.Generator().manual_seed(seed)
    values, grads = (torch.randn(SHAPE, generator=random).contiguous(memory_format=layout) for _ in range(2))
    values[0, :2] = step * torch.arange(-6, 6)  # whole steps, and both ends
    values[0, 2:4] = step * (torch.arange(-6, 6) + 0.5)  # ties
    rounded, of_values, of_step = run(values, step, ends, grads)
    expected = by_torch(values, step, ends, grads)
    assert torch.equal(rounded, expected[0])
    assert torch.equal(of_values, expected[1])
    assert rounded.stride() == values.stride() == of_values.stride()
    scale = float((expected[0] / step - values / step).abs().mul(grads.abs()).sum())
    assert abs(float(of_step - expected[2])) <= 1e-5 * scale


def test_gradients_may_lie_in_another_order_than_the_values() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(SHAPE, generator=random).contiguous(memory_format=torch.channels_last)
    grads = torch.randn(SHAPE, generator=random)
    expected = by_torch(values, 0.3, (-4, 3), grads)
    assert all(map(torch.allclose, run(values, 0.3, (-4, 3), grads), expected))


def test_what_is_no_number_stays_none() -> None:
    values = torch.zeros(SHAPE)
    values[0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    for found in (run, by_torch):
        rounded, of_values, of_step = found(values, 0.5, (-4, 3), torch.ones(SHAPE))
        assert rounded[0, 0, 0, 0].isnan()
        assert rounded[0, 0, 0, 1:3].tolist() == [1.5, -2.0]
        assert of_values[0, 0, 0, :4].tolist() == [0.0, 0.0, 0.0, 1.0]
        assert of_step.isnan()


def test_sixteen_bits_enter_and_get_gradients_of_sixteen() -> None:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).bfloat16()
    wide, narrow = (run(each, 0.3, (-4, 3), torch.ones(SHAPE)) for each in (values.float(), values))
    assert torch.equal(wide[0], narrow[0])
    assert narrow[0].dtype == torch.float32
    assert torch.equal(wide[1].bfloat16(), narrow[1])
    assert narrow[1].dtype == torch.bfloat16
    assert torch.equal(wide[2], narrow[2])
