"""Training on a format: rounded bit for bit forward, gradients by hand and as torch has them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tensor import grids
from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid, Codebook, Dense
from engine.tensor.granularity import TENSOR, TOKEN, Granularity, per_axis, per_block, per_group
from engine.types import FormatError, Param

EACH = [TENSOR, TOKEN, per_axis(0), per_axis(1), per_group(3), per_group(4, None), per_block(2, 3)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latent(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def test_a_symmetric_grid_by_hand() -> None:
    grid = AffineGrid(
        torch.tensor([1, -3, 0], dtype=torch.int32), torch.tensor([0.5]), torch.zeros(1).int(), 3
    )
    module, values = grid.straight_through(), latent([0.6, -2.0, 0.2])  # 1.2, -4 and 0.4 steps
    out = module(values)
    assert out.tolist() == [0.5, -1.5, 0.0]
    out.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0, 1.0]
    assert module.scale.grad.tolist() == pytest.approx([((1 - 1.2) - 3 + (0 - 0.4)) / math.sqrt(3 * 3)])


def test_an_asymmetric_grid_by_hand() -> None:
    grid = AffineGrid(torch.tensor([1, 2, 3], dtype=torch.int32), torch.ones(1), torch.tensor([2]).int(), 2)
    module, values = grid.straight_through(), latent([-1.4, 0.4, 5.0])
    out = module(values)
    assert out.tolist() == [-1.0, 0.0, 1.0]
    out.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 1.0, 0.0]
    assert module.scale.grad.tolist() == pytest.approx([((-1 + 1.4) + (0 - 0.4) + 1) / math.sqrt(3 * 1)])


def test_one_bit_by_hand() -> None:
    grid = grids.quantize(torch.tensor([1.0, -3.0, 0.0]), 1)
    module, values = grid.straight_through(), latent([0.5, -3.0, 0.0])
    out = module(values)
    assert out.tolist() == [2.0, -2.0, 0.0]
    (out * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0, 100.0]


def test_a_codebook_by_hand() -> None:
    book = Codebook(torch.tensor([1, 2, 0, 2], dtype=torch.int32), torch.tensor([-1.0, 0.0, 2.0]))
    module, values = book.straight_through(), latent([0.4, 1.2, -3.0, 9.0])
    out = module(values)
    assert out.tolist() == [0.0, 2.0, -1.0, 2.0]
    (out * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 10.0, 100.0, 1000.0]
    assert module.table.grad.tolist() == [100.0, 0.0, 1010.0]  # the entry of pruned weights stays zero


def test_floats_pass_as_they_are() -> None:
    module, values = Dense(torch.ones(2)).straight_through(), latent([0.1, -0.0])
    assert module(values) is values
    assert list(module.parameters()) == []


@given(st.sampled_from(EACH), st.booleans(), st.integers(2, 4), st.integers(0, 99))
@settings(deadline=None)
def test_gradients_are_those_of_the_papers_formula(
    granularity: Granularity, symmetric: bool, bits: int, seed: int
) -> None:
    """LSQ, appendix: `round_pass(clip(v / s)) * s`, where s has its gradient scaled by 1 / sqrt(N Q)."""
    values, upward = normal(6, 5, seed=seed).requires_grad_(), normal(6, 5, seed=seed + 1)
    grid = grids.quantize(values.detach() * 0.6, bits, symmetric, granularity)  # some lie beyond the ends
    module = grid.straight_through()
    (module(values) * upward).sum().backward()

    low, high = code_range(bits, symmetric)
    theirs, scale = values.detach().clone().requires_grad_(), grid.scale.clone().requires_grad_()
    count, top = 30 / len(scale), (high - grid.zero).clamp(min=1)
    g = 1 / torch.sqrt(count * top)
    s, zero = (granularity.over(e, (6, 5)) for e in ((scale - scale * g).detach() + scale * g, grid.zero))
    held = torch.minimum(torch.maximum(theirs / s, low - zero), high - zero)
    (((held.round() - held).detach() + held) * s * upward).sum().backward()
    torch.testing.assert_close(values.grad, theirs.grad)
    torch.testing.assert_close(module.scale.grad, scale.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("granularity", [TENSOR, per_axis(0), per_axis(1)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_are_torchs_but_for_the_outer_half_of_a_step(
    symmetric: bool, granularity: Granularity
) -> None:
    """Torch asks whether the rounded code is within the ends, the paper whether the value is."""
    values, upward = normal(6, 5), normal(6, 5, seed=1)
    grid = grids.quantize(values * 0.6, 3, symmetric, granularity)
    low, high = (-3, 3) if symmetric else (0, 7)
    step, zero = (granularity.over(each, (6, 5)).expand(6, 5) for each in (grid.scale, grid.zero))
    values = torch.where(torch.eye(6, 5) == 1, (high + 0.3 - zero) * step, values).requires_grad_()
    codes = values.detach() / step + zero
    outer = ((codes < low) & (codes.round() >= low)) | ((codes > high) & (codes.round() <= high))

    def gradients(upward: torch.Tensor) -> list[torch.Tensor]:
        module, theirs = grid.straight_through(), values.detach().clone().requires_grad_()
        values.grad = None
        (module(values) * upward).sum().backward()
        scale, points = grid.scale.clone().requires_grad_(), grid.zero.float()
        if granularity == TENSOR:
            out = torch._fake_quantize_learnable_per_tensor_affine(theirs, scale, points, low, high, 1.0)
        else:
            out = torch._fake_quantize_learnable_per_channel_affine(
                theirs, scale, points, granularity.axis, low, high, 1.0
            )
        (out * upward).sum().backward()
        assert values.grad is not None
        assert theirs.grad is not None
        assert scale.grad is not None
        return [values.grad, theirs.grad, module.scale.grad, scale.grad * module.factor]

    ours, theirs, our_step, their_step = gradients(torch.where(outer, 0.0, upward))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_step, their_step, rtol=1e-4, atol=1e-5)
    ours, theirs, our_step, their_step = gradients(outer.float())
    assert bool((ours[outer] == 0).all())
    assert bool((theirs[outer] == 1).all())
    assert not torch.allclose(our_step, their_step)


def assert_rounds_as_it_encodes(param: Param, values: torch.Tensor) -> None:
    module = param.straight_through()
    assert torch.equal(module(values), module.encode(values).decode())
    assert bool((module(torch.zeros_like(values)) == 0).all())
    again = module.encode(param.decode())
    assert type(again) is type(param)
    assert again.settings() == param.settings()
    assert torch.equal(again.decode(), param.decode())


@given(st.integers(1, 12), st.booleans(), st.sampled_from(EACH), st.integers(0, 99))
@settings(deadline=None)
def test_a_grid_rounds_forward_as_it_is_stored(
    bits: int, symmetric: bool, granularity: Granularity, seed: int
) -> None:
    values = normal(5, 7, seed=seed)
    values[0, ::2] = 0.0
    grid = grids.quantize(values, bits, symmetric, granularity)
    assert_rounds_as_it_encodes(grid, 2 * normal(5, 7, seed=seed + 1))


@given(st.integers(1, 30), st.integers(0, 99))
@settings(deadline=None)
def test_a_codebook_rounds_forward_as_it_is_stored(entries: int, seed: int) -> None:
    table = torch.cat([normal(entries, seed=seed), torch.zeros(1)])
    codes = torch.arange(35, dtype=torch.int32).reshape(5, 7) % len(table)
    assert_rounds_as_it_encodes(Codebook(codes, table), normal(5, 7, seed=seed + 1))


def test_a_step_that_was_driven_below_zero_still_gives_a_grid() -> None:
    module = grids.quantize(normal(4, 4), 4).straight_through()
    with torch.no_grad():
        module.scale.fill_(-1.0)
    module(9 * normal(4, 4).abs()).sum().backward()  # that many steps are no float
    assert bool((module.scale.grad > 0).all())
    grid = module.encode(normal(4, 4))
    grid.check("w")
    assert bool((grid.scale > 0).all() & torch.isfinite(grid.decode()).all())


def test_a_format_without_a_training_says_so() -> None:
    class Silent(Dense):
        kind = "silent"
        straight_through = Param.straight_through

    with pytest.raises(FormatError, match="in the format 'silent' can't be trained in it: decode them first"):
        Silent(torch.ones(1)).straight_through()
