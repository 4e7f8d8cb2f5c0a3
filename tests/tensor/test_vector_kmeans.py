"""K-means for vectors: by hand, and against scikit-learn, plain and in another metric."""

from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from engine.tensor.vector_kmeans import nearest, vector_kmeans
from engine.types import SlimscopeError


def drawn(count: int, length: int, seed: int = 0) -> Tensor:
    """Numbers with a heavy tail, as weights have."""
    values = torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
    return values * values.abs()


def lost(vectors: Tensor, table: Tensor) -> float:
    """Mean squared error of the nearest entries, by brute force in float64."""
    return float((vectors.double()[:, None] - table.double()).square().sum(2).min(1).values.mean())


def test_two_metrics_by_hand() -> None:
    """Sum of M: [[3, 1], [1, 3]]; of M v: (2, 0) + (2, 4) = (4, 4); so c = (1, 1)."""
    vectors = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    metric = torch.tensor([[1.0, 0.0, 1.0], [2.0, 1.0, 2.0]])
    assert vector_kmeans(vectors, 1, metric)[0].tolist() == pytest.approx([1.0, 1.0])


def test_numbers_that_do_not_count_do_not_move_an_entry() -> None:
    vectors, metric = torch.tensor([[1.0, 100.0], [3.0, 5.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert vector_kmeans(vectors, 1, metric).tolist() == [[2.0, 5.0]]
    assert vector_kmeans(vectors, 2, torch.zeros(2, 2)).tolist() == [[0.0, 0.0]]


def theirs(vectors: Tensor, k: int, seed: int) -> float:
    """Scikit-learn's mean squared error, from one start, as ours."""
    return float(KMeans(k, n_init=1, random_state=seed).fit(vectors.numpy()).inertia_) / len(vectors)


@pytest.mark.parametrize(("length", "k"), [(2, 16), (4, 32), (8, 8)])
def test_the_error_is_that_of_scikit_learn_within_a_few_per_cent(length: int, k: int) -> None:
    vectors = drawn(2000, length)
    ours = [lost(vectors, vector_kmeans(vectors, k, torch.ones_like(vectors), seed)) for seed in range(5)]
    assert sum(ours) < 1.05 * sum(theirs(vectors, k, seed) for seed in range(5))


def test_one_metric_for_all_is_a_change_of_coordinates() -> None:
    """(v - c)^T L L^T (v - c) is a plain squared error after v -> L^T v."""
    vectors, mixed = drawn(1500, 3), torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-0.5, 0.3, 1.0]])
    metric = mixed @ mixed.T
    one, other = torch.triu_indices(3, 3)
    table = vector_kmeans(vectors, 16, metric[one, other].expand(len(vectors), 6))
    assert lost(vectors @ mixed, table @ mixed) < 1.03 * theirs(vectors @ mixed, 16, 0)


def test_what_is_found_on_a_part_is_nearly_as_good() -> None:
    vectors = drawn(4000, 4)
    table = vector_kmeans(vectors, 8, torch.ones_like(vectors))  # of 1,024
    assert lost(vectors, table) < 1.05 * theirs(vectors, 8, 0)
    assert torch.equal(table, vector_kmeans(vectors, 8, torch.ones_like(vectors)))
    assert not torch.equal(table, vector_kmeans(vectors, 8, torch.ones_like(vectors), seed=1))


def test_every_vector_is_an_entry_where_there_are_enough() -> None:
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    table = vector_kmeans(vectors, 9, torch.ones(3, 2))
    assert sorted(table.tolist()) == [[1.0, 2.0], [3.0, 4.0]]


def test_the_nearest_is_the_one_of_least_error_by_brute_force() -> None:
    vectors, table = drawn(500, 4), drawn(20, 4, seed=1)
    roots = torch.randn(500, 4, 4, generator=torch.Generator().manual_seed(2))
    matrices = roots @ roots.transpose(1, 2)
    one, other = torch.triu_indices(4, 4)
    away = vectors[:, None] - table
    errors = torch.einsum("nki,nij,nkj->nk", away, matrices, away)
    assert torch.equal(nearest(vectors, table, matrices[:, one, other]), errors.argmin(1))


@pytest.mark.parametrize(
    ("k", "metric", "says"),
    [
        (0, torch.ones(3, 2), "k is 0: allowed is 1 or more"),
        (2, torch.ones(3, 4), r"the metric of vectors \(3, 2\) is \(3, 4\)"),
        (2, -torch.ones(3, 2), "an error counts -1: allowed are numbers from 0"),
    ],
)
def test_what_is_not_allowed_is_refused(k: int, metric: Tensor, says: str) -> None:
    with pytest.raises(SlimscopeError, match=says):
        vector_kmeans(torch.zeros(3, 2), k, metric)
