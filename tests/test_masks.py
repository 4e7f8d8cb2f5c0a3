"""Magnitude masks: exact counts, fixed ties, and torch's own pruning as the oracle."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from engine import grids, masks
from engine.types import Book, Dense, Grid

shares = st.floats(0.0, 1.0)
# Few different values, so that ties and zeros are common.
tied = st.lists(st.integers(-3, 3), min_size=1, max_size=40).map(lambda v: torch.tensor(v) / 2)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_smallest_go_first_and_of_equals_the_first() -> None:
    values = torch.tensor([[0.5, -0.1, 0.1], [0.1, -2.0, 0.0]])
    assert masks.by_sparsity(values, 0.5).tolist() == [[True, False, False], [True, True, False]]


@given(tied, shares)
def test_exactly_that_many_are_removed_unless_more_are_zero(values: torch.Tensor, share: float) -> None:
    kept = masks.by_sparsity(values, share)
    zeros = int((values == 0).sum())
    assert int((~kept).sum()) == max(round(share * len(values)), zeros)
    if kept.any() and not kept.all():
        assert values[kept].abs().min() >= values[~kept].abs().max()
    assert torch.equal(kept, masks.by_sparsity(values, share))


@given(tied, shares, shares)
def test_a_higher_sparsity_removes_a_superset(values: torch.Tensor, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bool((masks.by_sparsity(values, low) | ~masks.by_sparsity(values, high)).all())


@given(tied, tied, shares)
def test_a_ranking_over_all_is_the_ranking_of_one_long_tensor(
    one: torch.Tensor, other: torch.Tensor, share: float
) -> None:
    parts = masks.by_sparsity_over([one, other], share)
    assert torch.equal(torch.cat(parts), masks.by_sparsity(torch.cat([one, other]), share))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_one_layer_agrees_with_torch(share: float) -> None:
    layer = nn.Linear(40, 30)
    layer.weight.data = normal(30, 40)
    prune.l1_unstructured(layer, "weight", amount=share)
    assert torch.equal(masks.by_sparsity(normal(30, 40), share), layer.weight_mask.bool())


def test_all_layers_agree_with_torch() -> None:
    first, second = nn.Linear(40, 30), nn.Linear(30, 20)
    first.weight.data, second.weight.data = normal(30, 40), 0.3 * normal(20, 30, seed=1)
    ours = masks.by_sparsity_over([first.weight.data, second.weight.data], 0.7)
    prune.global_unstructured(
        [(first, "weight"), (second, "weight")], pruning_method=prune.L1Unstructured, amount=0.7
    )
    assert torch.equal(ours[0], first.weight_mask.bool())
    assert torch.equal(ours[1], second.weight_mask.bool())
    assert ours[1].float().mean() < 0.5 * ours[0].float().mean()  # the layer of small weights loses more


def test_a_weight_at_the_threshold_goes() -> None:
    assert masks.by_threshold(torch.tensor([0.2, -0.2, 0.3]), 0.2).tolist() == [False, False, True]


@pytest.mark.parametrize("quality", [0.5, 1.0, 1.645, 2.5])
def test_quality_on_gaussian_weights_removes_erf(quality: float) -> None:
    kept = masks.by_quality(normal(200_000) * 0.05, quality)
    assert 1 - float(kept.float().mean()) == pytest.approx(math.erf(quality / math.sqrt(2)), abs=0.004)


def test_energy_kept_by_hand() -> None:
    values = torch.tensor([3.0, -4.0, 0.0])
    assert masks.energy_kept(values, torch.tensor([False, True, False])) == pytest.approx(16 / 25)
    assert masks.energy_kept(torch.zeros(2), torch.tensor([False, False])) == 1.0


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("granularity", "group"), [("tensor", 64), ("channel", 64), ("group", 4)])
def test_a_grid_keeps_its_scales_and_gets_exact_zeros(symmetric: bool, granularity: str, group: int) -> None:
    values = normal(6, 10) + 0.5
    grid = grids.quantize(values, 4, symmetric, granularity, group)
    kept = masks.by_sparsity(values, 0.5)
    after = masks.remove(grid, kept)
    assert isinstance(after, Grid)
    assert after.scale is grid.scale
    assert torch.equal(after.decode(), grid.decode() * kept)


def test_a_grid_along_another_axis_gets_exact_zeros() -> None:
    codes = torch.arange(6, dtype=torch.int32).view(2, 3)
    grid = Grid(codes, torch.ones(3), torch.tensor([1, 2, 3], dtype=torch.int32), 3, axis=1)
    kept = torch.tensor([[True, False, False], [False, True, True]])
    assert torch.equal(masks.remove(grid, kept).decode(), grid.decode() * kept)


@pytest.mark.parametrize("table", [[0.5, -1.0], [0.5, 0.0, -1.0]])
def test_a_codebook_gets_an_entry_zero_once(table: list[float]) -> None:
    book = Book(torch.tensor([0, 1, 0], dtype=torch.int32), torch.tensor(table))
    after = masks.remove(book, torch.tensor([True, True, False]))
    assert isinstance(after, Book)
    assert len(after.table) == 3
    assert after.decode().tolist() == [0.5, table[1], 0.0]
    assert after.codes.dtype == torch.int32


def test_where_all_is_kept_nothing_is_copied() -> None:
    param = Dense(torch.ones(3))
    assert masks.remove(param, torch.tensor([True, True, True])) is param
