"""Compact designs: the shuffle is torch's, what reaches what, and fits that only get better."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.tensor import compact
from engine.tensor.compact import Design, Moments
from engine.types import SlimscopeError

DESIGNS = (Design("separable"), Design("grouped", 4), Design("shuffled", 4), Design("inverted", expansion=2))
INPUTS, OUTPUTS, AREA = 8, 16, 9


@given(st.integers(1, 6), st.integers(1, 5))
def test_the_shuffle_is_torchs_own_and_its_inverse_brings_channels_back(groups: int, each: int) -> None:
    x = torch.randn(2, groups * each, 3, 2)
    once = compact.shuffled(x, groups)
    assert torch.equal(once, nn.ChannelShuffle(groups)(x))
    last = compact.shuffled(x.contiguous(memory_format=torch.channels_last), groups)
    assert torch.equal(last, once)
    assert torch.equal(once, x[:, compact.channel_order(groups * each, groups)])
    assert torch.equal(compact.shuffled(once, each), x)


def test_weights_and_multiply_adds_by_hand() -> None:
    """A 3x3 kernel from 8 to 16 channels, 10 places in and 5 out."""
    sizes = (INPUTS, OUTPUTS, AREA)
    assert [compact.weights(design, *sizes) for design in DESIGNS] == [
        (72, 128),
        (288,),
        (288, 64),
        (128, 144, 256),
    ]
    assert [sum(compact.macs(design, *sizes, 10, 5)) for design in DESIGNS] == [1000, 1440, 1760, 3280]
    assert sum(compact.weights(Design("standard"), *sizes)) == 1152


def test_weights_are_as_many_as_connections() -> None:
    for design in DESIGNS:
        parts = compact.stages(design, INPUTS, OUTPUTS)
        spatial = {"separable": 0, "grouped": 0, "shuffled": 0, "inverted": 1}[design.name]
        counted = [int(part.sum()) * (AREA if n == spatial else 1) for n, part in enumerate(parts)]
        assert tuple(counted) == compact.weights(design, INPUTS, OUTPUTS, AREA)


def test_groups_never_talk_without_a_shuffle() -> None:
    """Sixteen channels in four groups: 4 are seen; with a shuffle all 16 after two convolutions."""
    grouped = compact.stages(Design("grouped", 4), 16, 16) * 3
    assert [counts.unique().tolist() for counts in compact.reached(grouped)] == [[4], [4], [4]]
    shuffled = compact.stages(Design("shuffled", 4), 16, 16) * 2
    assert [counts.unique().tolist() for counts in compact.reached(shuffled)][:3] == [[4], [16], [16]]
    separable = compact.stages(Design("separable"), 16, 16)
    assert [counts.unique().tolist() for counts in compact.reached(separable)] == [[1], [16]]


def test_what_a_design_reaches_is_what_its_gradient_says() -> None:
    for design in DESIGNS:
        parts = compact.stages(design, INPUTS, OUTPUTS)
        product = torch.eye(INPUTS)
        for part in parts:
            product = part.float() @ product
        assert torch.equal((product > 0).sum(1), compact.reached(parts)[-1])


# ---------------------------------------------------------------- fits


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Moments]:
    """A kernel, what it reads (n, samples) with inputs that have much in common, and the moments of both."""
    rng = torch.Generator().manual_seed(seed)
    mixed = torch.randn(INPUTS * AREA, INPUTS * AREA, generator=rng).double()
    reads = mixed @ torch.randn(INPUTS * AREA, 300, generator=rng).double()
    weight = torch.randn(OUTPUTS, INPUTS, AREA, generator=rng)
    given_ = weight.double().flatten(1) @ reads
    moments = Moments(reads @ reads.t() / 300, given_ @ reads.t() / 300, float(given_.square().sum() / 300))
    return weight, reads, moments


@settings(max_examples=5)
@given(st.integers(0, 99), st.sampled_from(DESIGNS))
def test_every_round_takes_the_error_down(seed: int, design: Design) -> None:
    weight, reads, moments = problem(seed)
    factors = compact.start(weight, design)
    errors = [compact.error(factors.kernel, moments)]
    for _ in range(4):
        factors = compact.refitted(factors, moments, design)
        errors.append(compact.error(factors.kernel, moments))
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(errors))
    assert errors[-1] < errors[0]
    goal = weight.double().flatten(1) @ reads
    left = (factors.kernel.flatten(1) @ reads - goal).square().sum() / goal.square().sum()
    assert errors[-1] == pytest.approx(float(left), rel=1e-6)


def test_groups_are_fitted_as_numpys_least_squares_has_it() -> None:
    weight, reads, moments = problem()
    design = DESIGNS[1]
    fitted = compact.refitted(compact.start(weight, design), moments, design).kernel
    goal, per = weight.double().flatten(1) @ reads, INPUTS // 4
    for group in range(4):
        own = reads[group * per * AREA : (group + 1) * per * AREA]
        rows = slice(group * 4, group * 4 + 4)
        oracle = np.linalg.lstsq(own.t().numpy(), goal[rows].t().numpy(), rcond=None)[0].T
        found = fitted[rows, group * per : (group + 1) * per].flatten(1)
        assert torch.allclose(found, torch.from_numpy(oracle), atol=1e-3)


def test_a_kernel_that_is_of_a_design_is_found_again() -> None:
    """The closed form alone: no fit, and no data."""
    rng = torch.Generator().manual_seed(3)
    filters, points = torch.randn(INPUTS, AREA, generator=rng), torch.randn(OUTPUTS, INPUTS, generator=rng)
    weight = points[:, :, None] * filters
    assert torch.allclose(compact.start(weight, Design("separable")).kernel.float(), weight, atol=1e-5)
    # Any kernel is the sum of as many separable ones as it has places.
    whole = torch.randn(OUTPUTS, INPUTS, AREA, generator=rng)
    again = compact.start(whole, Design("inverted", expansion=9)).kernel.float()
    assert torch.allclose(again, whole, atol=1e-5)


def test_inputs_that_nobody_ever_saw_do_no_harm() -> None:
    weight, reads, _ = problem()
    reads[: 2 * AREA] = 0.0
    given_ = weight.double().flatten(1) @ reads
    moments = Moments(reads @ reads.t() / 300, given_ @ reads.t() / 300, float(given_.square().sum() / 300))
    for design in DESIGNS:
        factors = compact.refitted(compact.start(weight, design), moments, design)
        assert bool(factors.kernel.isfinite().all())


# ---------------------------------------------------------------- bad input


def test_a_design_that_is_none_is_refused() -> None:
    with pytest.raises(SlimscopeError, match="design is 'round': allowed is one of separable"):
        Design("round")
    with pytest.raises(SlimscopeError, match="groups of a design is 0: allowed are numbers from 1 on"):
        Design("grouped", 0)
    assert "no multiple of 3" in compact.why_not(Design("grouped", 3), 8, 9, 9)
    assert "weights out of" in compact.why_not(Design("separable"), 1, 2, 2)
