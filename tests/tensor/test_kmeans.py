"""One-dimensional k-means: by hand, against every partition, and against kmeans1d and scikit-learn."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import kmeans1d
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from engine.tensor import kmeans as module
from engine.tensor.formats import Codebook
from engine.tensor.histogram import HistogramIndex
from engine.tensor.kmeans import assign, kmeans
from engine.tensor.sorted_index import SortedIndex
from engine.types import SlimscopeError

number = st.floats(-3, 3, width=32) | st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e-45, -1e-45, 1.0000001])
few = st.lists(number, min_size=1, max_size=9).map(lambda v: torch.tensor(v, dtype=torch.float32))
many = st.lists(number, min_size=1, max_size=90).map(lambda v: torch.tensor(v, dtype=torch.float32))


def lost(w: torch.Tensor, table: torch.Tensor) -> float:
    """Squared error of the nearest entries, by brute force in float64."""
    return float((w.double().flatten()[:, None] - table.double()).square().min(1).values.sum())


def rounding(found: module.Clusters) -> float:
    """What rounding the means to float32 may add."""
    half = np.spacing(np.abs(found.table.numpy())).astype(np.float64) / 2
    return float((found.counts.numpy() * half**2).sum())


def by_every_partition(w: torch.Tensor, k: int) -> float:
    """The optimum: every way to cut the sorted values into at most k groups."""
    ordered = np.sort(w.double().numpy())
    groups = min(k, len(ordered))
    cuts = combinations(range(1, len(ordered)), groups - 1)
    return min(sum(g.var() * len(g) for g in np.split(ordered, at)) for at in cuts)


def kinds(n: int) -> dict[str, np.ndarray]:
    g = np.random.default_rng(0)
    return {
        "normal": g.normal(size=n),
        "laplace": g.laplace(size=n),
        "heavy": g.standard_t(2, size=n),
        "outliers": np.append(g.normal(size=n - 3), [60.0, -80.0, 500.0]),
        "spikes": np.repeat(g.normal(size=n // 20), 20) + 1e-3 * g.normal(size=n // 20 * 20),
        "pruned": g.normal(size=n) * (g.random(n) < 0.1),
        "one side": np.exp(2 * g.normal(size=n)),
        "far away": 1000 + g.normal(size=n),
    }


# ---------------------------------------------------------------- by hand


def test_two_groups_by_hand() -> None:
    found = kmeans(torch.tensor([[1.0, 5.5], [1.25, 5.0], [5.75, 1.0]]), 2)
    assert found.table.tolist() == [pytest.approx(3.25 / 3), pytest.approx(16.25 / 3)]
    assert found.counts.tolist() == [3, 3]
    assert found.sse == pytest.approx(0.125 / 3 + (5.5**2 + 5**2 + 5.75**2 - 16.25**2 / 3), rel=1e-6)


def test_fewer_different_values_than_entries_are_their_own_table() -> None:
    found = kmeans(torch.tensor([3.0, 0.0, 3.0, -0.0, -1.0]), 8)
    assert found.table.tolist() == [-1.0, 0.0, 3.0]
    assert (found.counts.tolist(), found.sse) == ([1, 2, 2], 0.0)


def test_one_entry_is_the_mean() -> None:
    found = kmeans(torch.tensor([1.0, 2.0, 6.0]), 1)
    assert (found.table.tolist(), found.counts.tolist(), found.sse) == ([3.0], [3], 14.0)


@pytest.mark.parametrize("k", [0, 257, -1])
def test_a_table_has_1_to_256_entries(k: int) -> None:
    with pytest.raises(SlimscopeError, match=f"k is {k}: allowed is 1 to 256"):
        kmeans(torch.tensor([1.0]), k)


def test_the_result_makes_a_book() -> None:
    w = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    found = kmeans(w, 4)
    book = Codebook(assign(w, found.table), found.table)
    assert (book.codes.dtype, book.table.dtype) == (torch.int32, torch.float32)
    assert book.decode().shape == w.shape
    assert float((book.decode().double() - w.double()).square().sum()) == pytest.approx(found.sse)


# ---------------------------------------------------------------- against the optimum


@given(few, st.integers(1, 9))
@example(torch.tensor([1.0, 1.0000001, 1.0000002, -1.0]), 2)
@example(torch.full((5,), 0.3), 3)
def test_few_values_get_the_best_partition_of_all(w: torch.Tensor, k: int) -> None:
    found = kmeans(w, k)
    assert found.sse <= 1.000001 * by_every_partition(w, k) + rounding(found)
    assert found.sse == pytest.approx(lost(w, found.table), rel=1e-9, abs=1e-300)
    assert len(found.table) <= k
    assert (found.table.diff() > 0).all()


@given(many, st.integers(1, 12))
def test_a_search_over_cells_is_within_two_percent_too(w: torch.Tensor, k: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST", k)  # 8 cells for each entry, as 64 entries have
        found = kmeans(w, k)
    best = kmeans1d.cluster(w.double().numpy(), min(k, len(w))).centroids
    assert found.sse <= 1.02 * lost(w, torch.tensor(best, dtype=torch.float64)) + rounding(found) + 1e-12


@pytest.mark.parametrize("name", kinds(40))
@pytest.mark.parametrize("k", [2, 16, 64, 256])
def test_many_values_are_within_one_or_two_percent_of_kmeans1d(name: str, k: int) -> None:
    w = torch.from_numpy(kinds(8000)[name].astype(np.float32))
    best = torch.tensor(kmeans1d.cluster(w.double().numpy(), k).centroids, dtype=torch.float64)
    found = kmeans(w, k)
    assert found.sse <= (1.01 if k <= 64 else 1.02) * lost(w, best) + rounding(found)
    assert found.sse == pytest.approx(lost(w, found.table), rel=1e-6)
    assert torch.equal(kmeans(w, k).table, found.table)


def test_it_is_no_worse_than_scikit_learn() -> None:
    w = torch.randn(3000, generator=torch.Generator().manual_seed(1))
    other = KMeans(12, n_init=3, random_state=0).fit(w.numpy()[:, None]).inertia_
    assert kmeans(w, 12).sse <= 1.0001 * other


# ---------------------------------------------------------------- what it promises


@given(many, st.integers(1, 20))
def test_codes_counts_and_error_agree(w: torch.Tensor, k: int) -> None:
    found = kmeans(w, k)
    codes = assign(w, found.table)
    assert torch.bincount(codes, minlength=len(found.table)).tolist() == found.counts.tolist()
    away = (w - found.table[codes.long()]).double().abs()
    assert (away <= (w.double()[:, None] - found.table.double()).abs().min(1).values + 1e-6).all()
    again = kmeans(SortedIndex(w), k)
    assert torch.equal(again.table, found.table)


@given(many, st.lists(number, min_size=1, max_size=8, unique_by=lambda v: np.float32(v) + 0))
def test_each_value_goes_to_the_nearest_entry_the_lower_in_the_middle(w: torch.Tensor, entries) -> None:
    table = torch.tensor(sorted(entries), dtype=torch.float32)
    exact = [Fraction(entry) for entry in table.tolist()]
    away = [[abs(Fraction(v) - entry) for entry in exact] for v in w.tolist()]
    nearest = [row.index(min(row)) for row in away]
    assert assign(w, table).tolist() == nearest
    assert (
        SortedIndex(w).on_table(table).counts.tolist() == np.bincount(nearest, minlength=len(exact)).tolist()
    )


def test_a_table_must_rise() -> None:
    with pytest.raises(SlimscopeError, match="does not rise"):
        assign(torch.zeros(2), torch.tensor([1.0, 0.0]))


def test_the_coarse_index_finds_nearly_the_same_table() -> None:
    w = torch.randn(60_000, generator=torch.Generator().manual_seed(2))
    fine, coarse = kmeans(w, 16), kmeans(HistogramIndex([w]), 16)
    assert lost(w, coarse.table) <= 1.02 * fine.sse
    assert coarse.sse == pytest.approx(lost(w, coarse.table), rel=0.01)


def test_more_groups_never_cost_more() -> None:
    w = torch.randn(5000, generator=torch.Generator().manual_seed(3))
    errors = [kmeans(w, k).sse for k in (1, 2, 3, 5, 8, 13, 34, 89, 256)]
    assert errors == sorted(errors, reverse=True)


def test_an_entry_that_loses_its_values_stays_and_the_others_go_on() -> None:
    # The mean of -1 and 1 is farther from both than its neighbours are.
    index = SortedIndex(torch.tensor([-1.5, -1.0, 1.0, 1.5]))
    table = np.array([-1.5, 0.0, 1.5])
    assert module._lloyd(index, table, np.array([1, 2, 1])).tolist() == [-1.25, 0.0, 1.25]


def test_a_linear_start_with_empty_entries_runs_to_its_end() -> None:
    # Of the entries 0, 2.5, 5, 7.5, 10 those at 2.5 and 7.5 have no value: the rest are means by hand.
    found = kmeans(torch.tensor([0.0, 1.0, 4.0, 5.0, 5.5, 9.0, 10.0]), 5, start="linear")
    assert found.table.tolist() == [0.5, pytest.approx(14.5 / 3), 9.5]
    assert found.counts.tolist() == [2, 3, 2]


@given(many, st.integers(1, 20))
def test_lloyd_from_a_linear_start_ends_where_each_entry_is_the_mean_of_its_values(
    w: torch.Tensor, k: int
) -> None:
    found = kmeans(w, k, start="linear")
    assert (found.counts > 0).all()
    assert (found.table.diff() > 0).all()
    linear = torch.linspace(float(w.min()), float(w.max()), k, dtype=torch.float64)
    assert found.sse <= lost(w, linear) + rounding(found) + 1e-12
    codes = assign(w, found.table).long()
    for entry, value in enumerate(found.table.tolist()):
        assert float(w.double()[codes == entry].mean()) == pytest.approx(value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["normal", "laplace", "pruned", "far away"])
def test_the_quick_start_is_near_the_best_one(name: str) -> None:
    w = torch.from_numpy(kinds(8000)[name].astype(np.float32))
    assert 0.999 <= kmeans(w, 64, start="linear").sse / kmeans(w, 64).sse <= 4


def test_another_start_is_refused() -> None:
    with pytest.raises(SlimscopeError, match="start is 'middle': allowed are best, linear, density, random"):
        kmeans(torch.ones(3), 2, start="middle")


def test_a_density_start_has_as_many_values_below_as_above_each_entry() -> None:
    w = torch.cat([torch.linspace(0, 1, 90), torch.linspace(1, 10, 10)])
    table, _ = module._begin(SortedIndex(w), 4, "density", 0)
    assert table.tolist() == pytest.approx(
        [np.quantile(w, q) for q in (0.125, 0.375, 0.625, 0.875)], abs=0.02
    )


def test_a_random_start_is_drawn_by_its_seed_and_from_the_values() -> None:
    w = torch.randn(300, generator=torch.Generator().manual_seed(4))
    starts = [module._begin(SortedIndex(w), 6, "random", seed)[0] for seed in (0, 0, 1)]
    assert starts[0].tolist() == starts[1].tolist() != starts[2].tolist()
    assert set(starts[0].tolist()) <= set(w.double().tolist())


@pytest.mark.parametrize("start", ["density", "random"])
def test_any_start_ends_where_each_entry_is_the_mean_of_its_values(start: str) -> None:
    w = torch.from_numpy(kinds(3000)["laplace"].astype(np.float32))
    found = kmeans(w, 12, start)
    codes = assign(w, found.table).long()
    means = [float(w.double()[codes == entry].mean()) for entry in range(len(found.table))]
    assert found.table.tolist() == pytest.approx(means, abs=2e-3)
    assert kmeans(w, 12, start, steps=1).sse >= found.sse
