"""Uniform grids: the lecture's numbers, torch's fake quantization as the oracle, and the traps."""

import builtins
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tensor import calibrate, grids
from engine.tensor.affine import code_range, stored_affine
from engine.tensor.calibrate import least_error
from engine.tensor.calibrate import ranges as spans
from engine.tensor.granularity import (
    TENSOR,
    TOKEN,
    Granularity,
    named,
    per_axis,
    per_block,
    per_group,
)
from engine.types import SlimscopeError

bits = st.integers(1, 16)
weights = st.lists(
    st.floats(-100, 100, width=32, allow_subnormal=False) | st.just(0.0), min_size=6, max_size=42
).map(lambda v: torch.tensor(v[: len(v) // 3 * 3]).view(3, -1))
EACH = (TENSOR, TOKEN, per_axis(0), per_axis(1), per_group(2), per_group(3, None), per_block(2, 2))
granularities = st.sampled_from(EACH)
ranges = st.sampled_from(calibrate.METHODS)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- by hand


def test_the_lectures_example_by_the_exact_and_by_the_printed_scale() -> None:
    example = grids.affine_example(-4.75, 4.67, 8, -3.57)
    assert example.scale == pytest.approx(9.42 / 255)
    assert (example.zero, example.rounded_scale) == (129, 0.037)
    assert example.code == 32  # -3.57 / 0.036941 + 129 = 32.36
    assert example.rounded_code == 33  # -3.57 / 0.037 + 129 = 32.51


def test_the_lectures_example_as_a_tensor() -> None:
    grid = grids.quantize(torch.tensor([-4.75, -3.57, 0.0, 4.67]), 8, symmetric=False)
    assert grid.codes.tolist() == [0, 32, 129, 255]
    assert float(grid.scale) == pytest.approx(0.0369412, abs=1e-7)
    assert int(grid.zero) == 129


def test_a_scale_that_rounds_away_is_refused() -> None:
    with pytest.raises(SlimscopeError, match="decimals"):
        grids.affine_example(-0.01, 0.01, 8, 0.005)


def test_rounding_is_half_to_even() -> None:
    # A scale of exactly 1: 0.5, 1.5 and 2.5 go to 0, 2 and 2.
    grid = grids.quantize(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 7.0]), 4)
    assert grid.codes.tolist() == [0, 2, 2, 0, -2, 7]


def test_one_symmetric_bit_is_sign_times_mean_magnitude() -> None:
    grid = grids.quantize(torch.tensor([[1.0, -3.0, 0.0], [0.5, 0.5, -0.5]]), 1, granularity=per_axis(0))
    assert grid.codes.tolist() == [[1, -1, 0], [1, 1, -1]]
    assert grid.scale.tolist() == [2.0, 0.5]


def test_one_bit_scale_has_the_least_squared_error() -> None:
    values = normal(500)
    grid = grids.quantize(values, 1)
    best = grids.error(values, grid, True).mse
    for factor in (0.9, 0.99, 1.01, 1.1):
        moved = torch.sign(values) * grid.scale * factor
        assert float((values - moved).double().square().mean()) > best


def test_groups_that_do_not_divide_the_columns() -> None:
    values = torch.tensor([[1.0, -2.0, 4.0, 8.0, 16.0], [3.0, 0.0, 0.0, 0.0, 0.5]])
    grid = grids.quantize(values, 8, granularity=per_group(2))
    assert (grid.scale * 127).tolist() == pytest.approx([2.0, 8.0, 16.0, 3.0, 127.0, 0.5])  # zeros: scale 1
    assert grid.decode()[:, 4].tolist() == pytest.approx([16.0, 0.5])


def test_a_group_wider_than_the_row_is_the_row() -> None:
    values = normal(4, 5)
    wide = grids.quantize(values, 3, granularity=per_group(64))
    assert torch.equal(wide.decode(), grids.quantize(values, 3, granularity=per_axis(0)).decode())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", [1, 2, 8])
@pytest.mark.parametrize("range", calibrate.METHODS)
def test_a_row_of_zeros_stays_zeros(symmetric: bool, width: int, range: str) -> None:
    values = torch.stack([torch.zeros(5), normal(5)])
    grid = grids.quantize(values, width, symmetric, per_axis(0), range=range)
    assert bool((grid.decode()[0] == 0).all())
    assert bool(torch.isfinite(grid.scale).all() & (grid.scale > 0).all())


def test_extreme_floats_stay_finite() -> None:
    for values in (torch.tensor([3e38, -3e38, 1.0]), torch.tensor([1e-44, -1e-44, 0.0])):
        for symmetric in (True, False):
            assert bool(torch.isfinite(grids.quantize(values, 8, symmetric).decode()).all())


def test_percentile_looks_at_the_weights_that_are_left() -> None:
    alive = torch.arange(1.0, 102.0)  # its 90 % quantile is 91
    values = torch.cat([alive, torch.zeros(1000)])
    assert float(grids.quantize(values, 8, range="percentile", percentile=90).scale) * 127 == pytest.approx(
        91
    )


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 235_201, 1_000_003])
@pytest.mark.parametrize("percentile", [95.0, 99.85, 99.9, 99.95, 100.0])
def test_percentiles_are_numpys(count: int, percentile: float) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(count)) * 3
    rows, half = torch.stack([values, values.roll(1) - 1]), percentile / 200
    for symmetric, shares in ((True, [2 * half]), (False, [0.5 - half, 0.5 + half])):
        lows, highs = spans._percentile_range(rows, percentile, symmetric)
        for row, low, high in zip(rows.double().numpy(), lows.tolist(), highs.tolist(), strict=True):
            alive = row[row != 0]
            ends = np.quantile(np.abs(alive) if symmetric else alive, shares)
            assert high == pytest.approx(ends[-1], rel=1e-9, abs=1e-9)
            assert low == pytest.approx(-high if symmetric else ends[0], rel=1e-9, abs=1e-9)


def test_zeros_take_no_part_in_a_percentile() -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    thin = torch.cat([values, torch.zeros(20_000)])[None]
    for symmetric in (True, False):
        alone, among = (spans._percentile_range(block, 97.5, symmetric) for block in (values[None], thin))
        assert [end.tolist() for end in alone] == [end.tolist() for end in among]


def test_an_asymmetric_percentile_cuts_both_ends_alike() -> None:
    values = torch.arange(-100.0, 101.0)[torch.arange(201) != 100]
    grid = grids.quantize(values, 8, symmetric=False, range="percentile", percentile=90)
    low, high = np.quantile(values.numpy(), [0.05, 0.95])
    assert float(grid.scale) * 255 == pytest.approx(high - low)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(SlimscopeError, match=r"granularity is 'row'.*tensor, channel, group"):
        named("row", 8)
    with pytest.raises(SlimscopeError, match=r"a tensor of shape \(3,\) has no axis 1"):
        grids.quantize(normal(3), 8, granularity=per_axis(1))
    with pytest.raises(SlimscopeError, match=r"range is 'lap'.*minmax, percentile, mse"):
        grids.quantize(normal(3), 8, range="lap")


# ---------------------------------------------------------------- properties


@settings(deadline=None)
@given(weights, bits, st.booleans(), granularities, ranges)
def test_zeros_stay_zeros_and_codes_stay_inside(
    values: torch.Tensor, width: int, symmetric: bool, granularity: Granularity, range: str
) -> None:
    grid = grids.quantize(values, width, symmetric, granularity, range)
    low, high = code_range(width, symmetric)
    assert grid.codes.dtype == torch.int32
    assert low <= int(grid.codes.min()) <= int(grid.codes.max()) <= high
    assert bool((grid.decode()[values == 0] == 0).all())


@settings(deadline=None)
@given(weights, st.integers(2, 12), st.booleans(), granularities)
def test_min_max_is_never_off_by_more_than_half_a_step(
    values: torch.Tensor, width: int, symmetric: bool, granularity: Granularity
) -> None:
    grid = grids.quantize(values, width, symmetric, granularity)
    coarsest = float(grid.scale.max())
    assert grids.error(values, grid, symmetric).max_error <= 0.5 * coarsest * (1 + 1e-3)


@settings(deadline=None)
@given(weights, st.integers(2, 8), st.booleans())
def test_a_scale_for_each_row_is_each_row_by_itself(
    values: torch.Tensor, width: int, symmetric: bool
) -> None:
    whole = grids.quantize(values, width, symmetric, per_axis(0)).decode()
    rows = [grids.quantize(row, width, symmetric).decode() for row in values]
    assert torch.equal(whole, torch.stack(rows))


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(2, 8), st.booleans(), granularities)
def test_the_mse_clip_is_never_worse_than_min_max(
    values: torch.Tensor, width: int, symmetric: bool, granularity: Granularity
) -> None:
    def mse(range: str) -> float:
        return grids.error(
            values, grids.quantize(values, width, symmetric, granularity, range), symmetric
        ).mse

    assert mse("mse") <= mse("minmax") * (1 + 1e-5) + 1e-30


# ---------------------------------------------------------------- oracles


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", [2, 4, 8])
def test_per_tensor_agrees_with_torch(symmetric: bool, width: int) -> None:
    values = normal(50, 40)
    grid = grids.quantize(values, width, symmetric)
    low, high = code_range(width, symmetric)
    theirs = torch.fake_quantize_per_tensor_affine(values, float(grid.scale), int(grid.zero), low, high)
    assert_equal_but_ties(values, grid.decode(), theirs, float(grid.scale))


@pytest.mark.parametrize("symmetric", [True, False])
def test_per_channel_agrees_with_torch(symmetric: bool) -> None:
    values = normal(50, 4, 3, 3) * torch.linspace(0.1, 3, 50).view(-1, 1, 1, 1)
    grid = grids.quantize(values, 4, symmetric, per_axis(0))
    low, high = code_range(4, symmetric)
    theirs = torch.fake_quantize_per_channel_affine(values, grid.scale, grid.zero, 0, low, high)
    assert_equal_but_ties(values, grid.decode(), theirs, grid.scale.view(-1, 1, 1, 1))


def assert_equal_but_ties(
    values: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor, scale: torch.Tensor | float
) -> None:
    """torch multiplies by 1 / scale, so a value at the middle of a step may go the other way."""
    steps = values / scale
    tie = ((steps - steps.floor()) - 0.5).abs() < 1e-4
    assert bool((torch.isclose(ours, theirs, rtol=1e-6, atol=1e-7) | tie).all())
    assert float(tie.float().mean()) < 0.01


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(1, 4000), (5, 60)])
def test_both_searches_for_the_clip_agree_with_brute_force(symmetric: bool, shape: tuple[int, int]) -> None:
    values = normal(*shape)
    low, high = values.amin(1).double(), values.amax(1).double()
    fractions = torch.arange(100, 0, -1, dtype=torch.float64) / 100
    slow = torch.stack(
        [_sse(values, *stored_affine(low * f, high * f, 3, symmetric), symmetric) for f in fractions], 1
    )
    for search in (least_error._sorted_errors, least_error._direct_errors):
        fast = search(values, low, high, 3, symmetric, fractions)
        assert torch.allclose(fast, slow, rtol=1e-5)
    grid = grids.quantize(values, 3, symmetric, per_axis(0), range="mse")
    assert grids.error(values, grid, symmetric).mse == pytest.approx(
        float(slow.amin(1).sum()) / values.numel()
    )


def _sse(values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, symmetric: bool) -> torch.Tensor:
    low, high = code_range(3, symmetric)
    step, shift = scale.double()[:, None], zero[:, None]
    codes = torch.clamp(torch.round(values.double() / step) + shift, low, high)
    return ((codes - shift) * step - values.double()).square().sum(1)


# ---------------------------------------------------------------- claims and views


def test_a_bit_is_worth_six_decibels() -> None:
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    curve = grids.error_curve(values, bits=(6, 7, 8, 9, 10))
    assert curve["sqnr_db"].diff().dropna().tolist() == pytest.approx([6.02] * 4, abs=0.15)


@pytest.mark.parametrize("granularity", EACH)
@pytest.mark.parametrize("range", calibrate.METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_curve_says_what_quantizing_to_each_width_costs(
    granularity: Granularity, range: str, symmetric: bool
) -> None:
    values = normal(12, 40)
    values[0, :7] = 0.0  # a mask, and a last group that is shorter than the others
    chosen = {"granularity": granularity, "range": range, "percentile": 97.0}
    curve = grids.error_curve(values, symmetric=symmetric, **chosen)
    assert curve["bits"].tolist() == list(builtins.range(1, 17))
    for row in curve.itertuples():
        single = grids.error(values, grids.quantize(values, row.bits, symmetric, **chosen), symmetric)
        assert row.mse == pytest.approx(single.mse, rel=1e-9)
        assert row.sqnr_db == pytest.approx(single.sqnr_db, abs=1e-8)


def test_error_by_hand() -> None:
    values = torch.tensor([-1.0, 0.25, 1.0, 0.0])
    error = grids.error(values, grids.quantize(values, 2), True)
    assert error.mse == pytest.approx(0.25**2 / 4)
    assert error.max_error == pytest.approx(0.25)
    assert error.sqnr_db == pytest.approx(10 * math.log10(2.0625 / 0.0625))
    assert (error.levels_used, error.clipped) == (3, 0.0)


def test_no_error_is_infinitely_many_decibels() -> None:
    values = torch.tensor([-127.0, 5.0, 127.0])
    assert grids.error(values, grids.quantize(values, 8), True).sqnr_db == math.inf


def test_clipped_counts_what_is_beyond_the_ends() -> None:
    values = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([50.0])])
    grid = grids.quantize(values, 8, range="percentile", percentile=99)
    assert grids.error(values, grid, True).clipped >= 0.001
    assert grids.error(values, grids.quantize(values, 8), True).clipped == 0.0


def test_a_step_of_one_symmetric_bit_is_the_distance_of_its_two_levels() -> None:
    values = torch.tensor([-1.0, 0.5, 1.5, 5.0, -2.0, 2.0])  # mean size 2: levels -2 and 2, clipped beyond 4
    grid = grids.quantize(values, 1)
    assert grid.scale.item() == 2.0
    lost = grids.errors_in_steps(values, grid, True)
    torch.testing.assert_close(lost, torch.tensor([0.25, -0.375, -0.125, 0.75, 0.0, 0.0]))
    assert grids.error(values, grid, True).clipped == pytest.approx(1 / 6)


def test_levels_count_every_weight_of_the_row_once() -> None:
    values = normal(3, 10)
    grid = grids.quantize(values, 3, False, per_group(4))
    tables = [grids.levels(grid, False, row) for row in range(9)]
    assert [int(t["weights"].sum()) for t in tables] == [4, 4, 2] * 3
    assert all(len(t) == 8 for t in tables)
    held = tables[1].set_index("code")["value"][grid.codes[0, 4:8].tolist()]
    assert held.tolist() == grid.decode()[0, 4:8].tolist()


@pytest.mark.parametrize("group", [1, 4, 5, 10, 64])
def test_levels_of_a_group_are_those_of_its_own_weights(group: int) -> None:
    values = normal(3, 10)
    grid = grids.quantize(values, 3, False, per_group(group))
    parts = [part for row in grid.codes for part in row.split(group)]
    assert len(parts) == len(grid.scale)
    for number, part in enumerate(parts):
        table = grids.levels(grid, False, number)
        codes = np.repeat(table["code"].to_numpy(), table["weights"].to_numpy())
        assert codes.tolist() == sorted(part.tolist())


def test_the_staircase_is_what_rounding_does() -> None:
    values = normal(200)
    grid = grids.quantize(values, 3)
    stairs = grids.staircase(grid, True)
    assert stairs["input"].is_monotonic_increasing
    assert len(stairs) == 2 * 7
    treads = stairs.iloc[::2]["input"].to_numpy()
    own = np.searchsorted(treads, values.numpy(), side="right") - 1
    assert stairs.iloc[::2]["output"].to_numpy()[own] == pytest.approx(grid.decode().numpy())


def test_the_staircase_of_one_bit_has_one_riser_at_zero() -> None:
    stairs = grids.staircase(grids.quantize(torch.tensor([1.0, -1.0]), 1), True)
    assert stairs["output"].tolist() == [-1.0, -1.0, 1.0, 1.0]
    assert stairs["input"].tolist()[1:3] == [0.0, 0.0]


def test_the_corner_of_a_kernel_is_that_of_its_matrix() -> None:
    values = normal(8, 2, 3, 3)
    grid = grids.quantize(values, 4, granularity=per_axis(0))
    original, codes, back = grids.corner(values, grid)
    assert torch.equal(original, values.view(8, 18)[:5, :5])
    assert torch.allclose(codes * grid.scale[:5, None], back)
    assert grids.corner(values[:2], grids.quantize(values[:2], 4))[0].shape == (2, 5)
