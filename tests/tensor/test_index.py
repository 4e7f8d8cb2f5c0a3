"""The sorted index answers what touching every weight would; the coarse one lies within its bounds."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from engine.tensor import grids, masks, sorted_index
from engine.tensor.affine import code_range, stored_affine
from engine.tensor.granularity import TENSOR
from engine.tensor.grids import rounding
from engine.tensor.histogram import HistogramIndex, index_of
from engine.tensor.sorted_index import SortedIndex
from engine.types import SlimscopeError

TINY = 1e-45  # the smallest float32 above zero
number = st.floats(-2, 2, width=32) | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.5, TINY, -TINY, 3e-39])
values = st.lists(number, min_size=1, max_size=90).map(lambda v: torch.tensor(v, dtype=torch.float32))
bits_wide = st.integers(1, 9)
any_range = st.floats(1e-3, 1.0) | st.sampled_from([1e-30, 100.0])


@pytest.fixture(params=["rounding", "sums"])
def way(request, monkeypatch):
    """Both ways to an answer, whatever is cheaper: rounding every value, or asking the prefix sums."""
    monkeypatch.setattr(sorted_index, "ASK_COST", 10**9 if request.param == "rounding" else -(10**9))


def normal(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def squares(w: torch.Tensor) -> float:
    return float(w.double().square().sum())


def nearest(w: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """By brute force in fractions: the place of the nearest entry, the lower one in the middle."""
    exact = [Fraction(entry) for entry in table.tolist()]
    away = [[abs(Fraction(v) - entry) for entry in exact] for v in w.tolist()]
    return torch.tensor([row.index(min(row)) for row in away])


# ---------------------------------------------------------------- thresholds


@given(values, st.floats(0, 2.5) | st.just(TINY))
def test_counts_and_energy_are_those_of_the_mask(w: torch.Tensor, threshold: float) -> None:
    found, kept = SortedIndex(w), masks.by_threshold(w, threshold)
    assert found.count_removed(threshold) == int((~kept).sum())
    assert found.energy_removed(threshold) == pytest.approx(squares(w[~kept]), abs=1e-9 * squares(w))
    assert found.error_bound(threshold) == (0, 0.0)


@given(values, st.floats(0, 1))
@example(torch.tensor([-1.0, -1.0, 1.0, 1.0]), 0.75)
@example(torch.tensor([-0.0, 0.0, -TINY]), 1.0)
def test_the_threshold_of_a_sparsity_is_the_largest_that_goes(w: torch.Tensor, share: float) -> None:
    removed = round(share * len(w))
    answer = SortedIndex(w).threshold_for(share)
    assert answer == (float(w.abs().sort().values[removed - 1]) if removed else 0.0)
    assert SortedIndex(w).count_removed(answer) >= removed


def test_a_threshold_is_compared_as_a_float32() -> None:
    w = torch.tensor([0.1, 0.2])
    assert SortedIndex(w).count_removed(0.1) == int((~masks.by_threshold(w, 0.1)).sum()) == 1


def test_nothing_is_smaller_than_a_negative_threshold() -> None:
    for found in (SortedIndex(torch.tensor([0.0, 1.0])), HistogramIndex([torch.tensor([0.0, 1.0])])):
        assert found.count_removed(-1.0) == 0
        assert found.energy_removed(-1.0) == 0.0
        assert found.error_bound(-1.0) == (0, 0.0)


@given(values, st.integers(1, 12), st.floats(0, 2.5))
def test_the_histogram_counts_every_weight_once(w: torch.Tensor, bins: int, threshold: float) -> None:
    found = SortedIndex(w)
    table = found.histogram(bins, threshold)
    assert len(table) == bins
    assert int(table["weights"].sum()) == len(w)
    assert int(table["removed"].sum()) == found.count_removed(threshold)
    assert (table["removed"] <= table["weights"]).all()
    assert table["low"].equals(found.histogram(bins)["low"])


def test_the_histogram_agrees_with_numpy() -> None:
    w = normal(5000)
    table = SortedIndex(w).histogram(40)
    edges = np.append(table["low"].to_numpy(), table["high"].to_numpy()[-1])
    assert table["weights"].tolist() == np.histogram(w.numpy(), edges)[0].tolist()
    assert int(table["removed"].sum()) == 0


# ---------------------------------------------------------------- grids


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_grid_costs_what_rounding_every_weight_costs(symmetric: bool) -> None:
    @given(values, any_range, bits_wide, st.integers(0, 1000))
    def check(w: torch.Tensor, scale: float, bits: int, place: int) -> None:
        low, high = code_range(bits, symmetric)
        zero = 0 if symmetric else low + place % (high - low + 1)
        step = torch.tensor([scale])
        codes = rounding.codes_of(TENSOR, w, step, torch.tensor([zero]), bits, symmetric)
        back = (codes - zero).float() * step
        answer = SortedIndex(w).on_grid(scale, zero, bits, symmetric)
        counted = torch.bincount(codes.flatten() - low, minlength=high - low + 1)
        assert answer.counts.tolist() == counted.tolist()
        whole = max(squares(w), squares(back))  # a level far from its values, and the sum is that of levels
        assert answer.sse == pytest.approx(squares(back - w.double()), abs=1e-9 * whole)
        assert (answer.sse_bound, answer.counts_bound) == (0.0, 0)

    check()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 14, 16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_large_tensor_on_its_own_grid(bits: int, symmetric: bool) -> None:
    w = normal(40_000, seed=1)
    grid = grids.quantize(w, bits, symmetric)
    found = SortedIndex(w)
    scale, zero = found.affine(bits, symmetric)
    assert (scale, zero) == (pytest.approx(float(grid.scale), rel=1e-7), int(grid.zero))
    answer = found.on_grid(float(grid.scale), int(grid.zero), bits, symmetric)
    low, _ = code_range(bits, symmetric)
    counted = torch.bincount(grid.codes - low, minlength=len(answer.counts))
    assert answer.counts.tolist() == counted.tolist()
    assert answer.sse == pytest.approx(squares(grid.decode().double() - w.double()), abs=1e-9 * squares(w))


def test_ties_go_to_even_in_the_index_too() -> None:
    answer = SortedIndex(torch.tensor([0.5, 1.5, 2.5, -0.5])).on_grid(1.0, 0, 3, True)
    assert dict(zip(answer.codes.tolist(), answer.counts.tolist(), strict=True))[0] == 2
    assert dict(zip(answer.codes.tolist(), answer.counts.tolist(), strict=True))[2] == 2


def test_entropy_by_hand() -> None:
    answer = SortedIndex(torch.tensor([1.0, 1.0, -1.0, 0.0])).on_grid(1.0, 0, 2, True)
    assert answer.entropy == pytest.approx(1.5)
    alike = SortedIndex(torch.zeros(3)).on_grid(1.0, 0, 2, True)
    assert alike.entropy == 0.0
    assert not math.copysign(1, alike.entropy) < 0


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("bits", "symmetric"), [(2, True), (3, False), (4, True), (8, False)])
def test_the_clip_is_the_best_of_all_hundred(bits: int, symmetric: bool) -> None:
    w = normal(3000, seed=2)
    w[::100] *= 6
    found = SortedIndex(w)
    table = found.clip_errors(bits, symmetric)
    low, high = w.min().double(), w.max().double()
    for clip, sse in zip(table["clip"], table["sse"], strict=True):
        scale, zero = stored_affine(low * clip, high * clip, bits, symmetric)
        codes = rounding.codes_of(TENSOR, w, scale.view(1), zero.view(1), bits, symmetric)
        lost = (codes - zero).float() * scale - w.double()
        assert sse == pytest.approx(squares(lost), abs=1e-9 * squares(w))
    chosen = found.best_clip(bits, symmetric)
    assert table["sse"].min() == float(table.loc[table["clip"] == chosen, "sse"].iloc[0])
    quantized = grids.quantize(w, bits, symmetric, range="mse")
    assert found.affine(bits, symmetric, chosen)[0] == float(quantized.scale)


def test_of_two_clips_as_good_the_larger_is_taken_and_one_bit_has_none() -> None:
    assert SortedIndex(torch.zeros(5)).best_clip(4, True) == 1.0
    two = SortedIndex(torch.tensor([-1.0, 3.0]))
    assert two.best_clip(1, True) == 1.0
    assert two.affine(1, True, 0.5) == (2.0, 0)
    assert SortedIndex(torch.zeros(5)).affine(1, True) == (1.0, 0)


# ---------------------------------------------------------------- tables


tables = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=9, unique=True).map(
    lambda v: torch.tensor(sorted(v), dtype=torch.float32)
)


@pytest.mark.usefixtures("way")
def test_a_table_costs_what_the_nearest_entries_cost() -> None:
    @given(values, tables)
    def check(w: torch.Tensor, table: torch.Tensor) -> None:
        codes, answer = nearest(w, table), SortedIndex(w).on_table(table)
        assert answer.counts.tolist() == torch.bincount(codes, minlength=len(table)).tolist()
        lost = squares(w.double() - table[codes].double())
        assert answer.sse == pytest.approx(lost, abs=1e-9 * max(squares(w), squares(table[codes])))

    check()


def test_a_table_that_does_not_rise_is_refused() -> None:
    for table in (torch.tensor([1.0, 0.0]), torch.tensor([]), torch.zeros(2, 2)):
        with pytest.raises(SlimscopeError, match="does not rise"):
            SortedIndex(torch.zeros(3)).on_table(table)


# ---------------------------------------------------------------- what it is made of


def test_an_index_over_several_layers_is_one_ranking() -> None:
    one, other = torch.tensor([[3.0, 1.0]]), torch.tensor([2.0, 0.5, 4.0])
    assert SortedIndex([one, other]).threshold_for(0.6) == 2.0


def test_the_input_is_not_touched_and_the_index_cannot_be() -> None:
    w = torch.tensor([3.0, 1.0])
    found = SortedIndex(w)
    assert w.tolist() == [3.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 0


def test_memory_is_an_eighth_more_than_the_weights() -> None:
    found = SortedIndex(normal(100_000))
    assert 400_000 < found.nbytes < 1.13 * 400_000
    held = [v for v in vars(found).values() if isinstance(v, np.ndarray)]
    owned = {id(v if v.base is None else v.base): (v if v.base is None else v.base) for v in held}
    assert sum(v.nbytes for v in owned.values()) == found.nbytes


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [SortedIndex, lambda w: HistogramIndex([w])])
def test_values_that_are_not_finite_are_refused(bad: float, kind) -> None:
    with pytest.raises(SlimscopeError, match="NaN or infinite"):
        kind(torch.tensor([1.0, bad, 2.0]))
    with pytest.raises(SlimscopeError, match="empty"):
        kind(torch.tensor([]))


# ---------------------------------------------------------------- the coarse index


def slack(w: torch.Tensor) -> float:
    return 1e-9 * squares(w)


@given(values, st.floats(0, 2.5) | st.just(TINY))
def test_coarse_counts_and_energy_lie_within_what_is_said(w: torch.Tensor, threshold: float) -> None:
    exact, found = SortedIndex(w), HistogramIndex([w])
    count, energy = found.error_bound(threshold)
    assert abs(found.count_removed(threshold) - exact.count_removed(threshold)) <= count
    assert abs(found.energy_removed(threshold) - exact.energy_removed(threshold)) <= energy + slack(w)


@given(values, any_range, st.integers(1, 12), st.booleans(), st.integers(0, 4000))
def test_coarse_grids_lie_within_what_is_said(w, scale, bits, symmetric, place) -> None:
    low, high = code_range(bits, symmetric)
    zero = 0 if symmetric else low + place % (high - low + 1)
    true, found = (i.on_grid(scale, zero, bits, symmetric) for i in (SortedIndex(w), HistogramIndex([w])))
    assert found.codes.tolist() == true.codes.tolist()
    assert found.counts.sum() == len(w)
    assert np.abs(found.counts - true.counts).max() <= found.counts_bound
    far = squares(
        torch.from_numpy(((true.codes - zero).astype(np.float32) * np.float32(scale))[true.counts > 0])
    )
    assert abs(found.sse - true.sse) <= found.sse_bound + slack(w) + 1e-9 * far * len(w)


@given(values, tables)
def test_coarse_tables_lie_within_what_is_said(w: torch.Tensor, table: torch.Tensor) -> None:
    true, found = (i.on_table(table) for i in (SortedIndex(w), HistogramIndex([w])))
    assert np.abs(found.counts - true.counts).max() <= found.counts_bound
    assert abs(found.sse - true.sse) <= found.sse_bound + slack(w) + 4e-9 * len(w)


@given(values)
def test_the_coarse_index_knows_size_extremes_and_zeros(w: torch.Tensor) -> None:
    found = HistogramIndex([w])
    assert (len(found), found.least, found.largest) == (len(w), float(w.min()), float(w.max()))
    assert found.count_removed(0.0) == int((w == 0).sum())
    assert found.count_removed(3.0) == len(w)
    assert found.energy_removed(3.0) == pytest.approx(squares(w), rel=1e-12)


@given(values, st.floats(0, 1))
def test_a_coarse_threshold_removes_as_many_as_asked(w: torch.Tensor, share: float) -> None:
    found, removed = HistogramIndex([w]), round(share * len(w))
    threshold = found.threshold_for(share)
    assert found.count_removed(threshold) >= removed
    if removed and threshold > 0:
        assert found.count_removed(float(np.nextafter(np.float32(threshold), np.float32(0)))) < removed
    exact = SortedIndex(w).threshold_for(share)
    assert threshold == pytest.approx(exact, rel=1 / 128, abs=1.2e-38)  # one bin; denormals share wider ones


def test_the_coarse_index_is_near_where_weights_are_many() -> None:
    w = normal(200_000, seed=3)
    exact, found = SortedIndex(w), HistogramIndex([w])
    assert found.threshold_for(0.9) == pytest.approx(exact.threshold_for(0.9), rel=1e-3)
    for bits in (2, 4, 8, 16):
        grid = exact.affine(bits, True)
        assert found.affine(bits, True) == (pytest.approx(grid[0], rel=1e-7), grid[1])
        true, near = exact.on_grid(*grid, bits, True), found.on_grid(*grid, bits, True)
        assert near.sse == pytest.approx(true.sse, rel=0.01)
        assert near.entropy == pytest.approx(true.entropy, rel=0.01)
    assert found.best_clip(4, True) == exact.best_clip(4, True)
    assert found.histogram(20)["weights"].sum() == len(w)


def test_coarse_memory_does_not_grow_with_the_weights() -> None:
    wide = torch.exp(normal(300_000, seed=4) * 20) * torch.sign(normal(300_000, seed=5))
    found = HistogramIndex([wide.clamp(-3e38, 3e38)])
    assert found.nbytes <= 65_537 * 48 + 3 * 8
    assert found.nbytes < 0.2 * 4 * (1 << 24)


def test_several_tensors_and_chunks_are_one_histogram(monkeypatch) -> None:
    w = normal(5000, seed=6)
    whole = HistogramIndex([w])
    monkeypatch.setattr("engine.tensor.bins.CHUNK", 700)
    parts = HistogramIndex([w[:1000].view(10, 100), w[1000:]])
    assert parts.place(np.float32(0.3)) == whole.place(np.float32(0.3))
    assert parts.energy_removed(0.7) == pytest.approx(whole.energy_removed(0.7), rel=1e-12)


def test_sixteen_bit_floats_are_counted_in_their_own_bins() -> None:
    w = normal(4000, seed=7).to(torch.bfloat16)
    threshold = float(w.abs()[5])
    assert HistogramIndex([w]).error_bound(threshold)[0] <= 2 * int((w.abs() == abs(threshold)).sum())


def test_size_decides_which_index_is_kept() -> None:
    w = normal(100)
    assert isinstance(index_of(w, exact=100), SortedIndex)
    assert isinstance(index_of([w, w], exact=199), HistogramIndex)
    assert index_of([w, -w], exact=200).count_removed(10) == 200
