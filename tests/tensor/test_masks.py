"""Masks: exact counts, fixed ties, whole units, and torch's own pruning as the oracle."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from engine.tensor import grids, masks
from engine.tensor.formats import AffineGrid, Codebook, Dense
from engine.tensor.granularity import TENSOR, Granularity, per_axis, per_block, per_group
from engine.types import SlimscopeError

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
@pytest.mark.parametrize("granularity", [TENSOR, per_axis(0), per_group(4), per_block(4, 4)])
def test_a_grid_keeps_its_scales_and_gets_exact_zeros(symmetric: bool, granularity: Granularity) -> None:
    values = normal(6, 10) + 0.5
    grid = grids.quantize(values, 4, symmetric, granularity)
    kept = masks.by_sparsity(values, 0.5)
    after = grid.masked(kept)
    assert isinstance(after, AffineGrid)
    assert after.scale is grid.scale
    assert torch.equal(after.decode(), grid.decode() * kept)


def test_a_grid_along_another_axis_gets_exact_zeros() -> None:
    codes = torch.arange(6, dtype=torch.int32).view(2, 3)
    grid = AffineGrid(codes, torch.ones(3), torch.tensor([1, 2, 3], dtype=torch.int32), 3, per_axis(1))
    kept = torch.tensor([[True, False, False], [False, True, True]])
    assert torch.equal(grid.masked(kept).decode(), grid.decode() * kept)


@pytest.mark.parametrize("table", [[0.5, -1.0], [0.5, 0.0, -1.0]])
def test_a_codebook_gets_an_entry_zero_once(table: list[float]) -> None:
    book = Codebook(torch.tensor([0, 1, 0], dtype=torch.int32), torch.tensor(table))
    after = book.masked(torch.tensor([True, True, False]))
    assert isinstance(after, Codebook)
    assert len(after.table) == 3
    assert after.decode().tolist() == [0.5, table[1], 0.0]
    assert after.codes.dtype == torch.int32


def test_where_all_is_kept_nothing_is_copied() -> None:
    param = Dense(torch.ones(3))
    assert param.masked(torch.tensor([True, True, True])) is param


# ---------------------------------------------------------------- any score, any shape


def test_units_by_hand() -> None:
    kernels = masks.units((2, 2, 1, 2), "kernel")
    assert kernels.tolist() == [[[[0, 0]], [[1, 1]]], [[[2, 2]], [[3, 3]]]]
    assert masks.units((2, 2, 1, 2), "filter").flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert masks.units((2, 2, 1, 2), "channel").flatten().tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert masks.units((3, 5), "block", 2).tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]


@pytest.mark.parametrize("shape", masks.UNITS)
@pytest.mark.parametrize("size", [(5, 6), (4, 3, 3, 3), (2, 5, 4)])
def test_every_weight_is_in_one_unit_and_numbers_have_no_gap(shape: str, size: tuple[int, ...]) -> None:
    if shape == "kernel" and len(size) == 2:
        with pytest.raises(SlimscopeError, match="no kernels"):
            masks.units(size, shape)
        return
    found = masks.units(size, shape, 4)
    assert found.shape == size
    numbers = found.flatten().unique()
    assert numbers.tolist() == list(range(len(numbers)))
    first = [int((found.flatten() == number).nonzero()[0]) for number in numbers]
    assert first == sorted(first)  # in memory order, as ties are broken


@given(tied, shares)
def test_magnitudes_of_single_weights_are_by_sparsity(values: torch.Tensor, share: float) -> None:
    column = values.view(-1, 1)
    expected = masks.by_sparsity(column, share)
    assert torch.equal(masks.by_score(column, column.abs(), share), expected)
    assert torch.equal(masks.by_score(column, None, share), expected)


@given(tied, tied, shares)
def test_other_scores_compete_over_all_layers_with_exact_counts(
    one: torch.Tensor, other: torch.Tensor, share: float
) -> None:
    pair, rated = [one.view(-1, 1), other.view(-1, 1)], [one.view(-1, 1).exp(), other.view(-1, 1).exp()]
    kept = torch.cat([mask.flatten() for mask in masks.by_score_over(pair, rated, share)])
    values = torch.cat([one, other])
    alive = values != 0
    assert int((~kept).sum()) == max(round(share * len(values)), int((~alive).sum()))
    gone = alive & ~kept
    if gone.any() and kept.any():
        assert values[gone].max() <= values[kept].min()


def test_a_score_of_nothing_is_no_zero_weight() -> None:
    values, nothing = torch.ones(1, 6), torch.zeros(1, 6)
    assert masks.by_score(values, nothing, 0.5).tolist() == [[False] * 3 + [True] * 3]
    assert masks.by_score(values, nothing, 0.0).all()


@pytest.mark.parametrize(("shape", "dim"), [("filter", 0), ("channel", 1)])
@pytest.mark.parametrize(("norm", "n"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("layer", [nn.Linear(9, 12), nn.Conv2d(6, 10, 3)])
def test_rows_and_columns_agree_with_torch(shape: str, dim: int, norm: str, n: int, layer: nn.Module) -> None:
    weight = normal(*layer.weight.shape)
    copy = type(layer)(*([9, 12] if isinstance(layer, nn.Linear) else [6, 10, 3]))
    copy.weight.data = weight.clone()
    prune.ln_structured(copy, "weight", amount=0.4, n=n, dim=dim)
    assert torch.equal(masks.by_score(weight, None, 0.4, shape, norm=norm), copy.weight_mask.bool())


def test_kernels_and_blocks_by_their_own_norms() -> None:
    weight = normal(6, 5, 3, 3)
    kept = masks.by_score(weight, None, 0.5, "kernel", norm="l2")
    norms = weight.flatten(2).norm(dim=2)
    assert torch.equal(kept.flatten(2).all(2), norms > norms.flatten().sort().values[14])
    assert torch.equal(kept.flatten(2).all(2), kept.flatten(2).any(2))
    matrix = torch.tensor([[1.0, 1.0, 3.0], [1.0, 1.0, 3.0], [9.0, 9.0, 2.0]])
    # means of the blocks: 1, 3, 9, 2; the smallest two hold 5 of 9 weights, the smallest alone 4
    assert masks.by_score(matrix, None, 0.5, "block", block=2).tolist() == [
        [False, False, True],
        [False, False, True],
        [True, True, True],
    ]
    assert not masks.by_score(matrix, None, 0.52, "block", block=2)[2, 2]


@given(st.integers(1, 9), st.integers(1, 9), shares, st.integers(0, 9))
def test_ragged_blocks_come_nearest_to_the_share(rows: int, columns: int, share: float, seed: int) -> None:
    weight = normal(rows, columns, seed=seed)
    kept = masks.by_score(weight, None, share, "block", block=4)
    unit = masks.units(weight.shape, "block", 4)
    assert all(kept[unit == number].unique().numel() == 1 for number in unit.unique())
    distance = abs(int((~kept).sum()) - share * weight.numel())
    assert distance <= int(unit.flatten().bincount().max()) / 2 + 1e-9


def test_units_without_a_weight_count_as_removed_and_zeros_in_others_stay_zero() -> None:
    weight = torch.tensor([[0.0, 0.0], [5.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    kept = masks.by_score(weight, None, 0.25, "filter")
    assert kept.tolist() == [[False, False], [True, False], [True, True], [False, False]]
    assert torch.equal(
        masks.by_score(weight, None, 0.75, "filter"), kept & torch.tensor([[0], [1], [0], [0]]).bool()
    )


def test_n_of_m_is_the_best_of_all_patterns() -> None:
    weight = normal(6, 8)
    kept = masks.by_pattern(weight, None, 2, 4)
    patterns = torch.tensor([p for p in itertools.product([0, 1], repeat=4) if sum(p) == 2])
    best = patterns[(weight.abs().view(-1, 4) @ patterns.T.float()).argmax(1)]
    assert torch.equal(kept.view(-1, 4), best.bool())


@given(st.integers(1, 4), st.integers(0, 5))
def test_n_of_m_runs_along_the_inputs_of_a_convolution(n: int, seed: int) -> None:
    weight = normal(3, 8, 3, 3, seed=seed)
    kept = masks.by_pattern(weight, None, n, 4)
    assert kept.is_contiguous()
    groups = kept.permute(2, 3, 0, 1).reshape(-1, 4)  # as NVIDIA's sparsity tool looks at (K, C, R, S)
    assert bool((groups.sum(1) == n).all())
    sizes = weight.abs().permute(2, 3, 0, 1).reshape(-1, 4)
    least = sizes.masked_fill(~groups, math.inf).amin(1)
    assert bool((sizes.masked_fill(groups, 0.0).amax(1) <= least).all())


def test_n_of_m_with_ties_zeros_and_what_does_not_fit() -> None:
    row = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 2.0]])
    assert masks.by_pattern(row, None, 2, 4).tolist() == [[False, False, True, True, *[False] * 3, True]]
    assert masks.by_pattern(row, 1 / (row + 1), 1, 8).tolist() == [[*[False] * 3, True, *[False] * 4]]
    with pytest.raises(SlimscopeError, match="8 inputs can't be cut into groups of 3"):
        masks.by_pattern(row, None, 1, 3)
    with pytest.raises(SlimscopeError, match="n is 5: allowed is 1 to m, which is 4"):
        masks.by_pattern(row, None, 5, 4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda w: masks.by_score(w, None, 0.5, "star"), "granularity is 'star'.*element, block"),
        (lambda w: masks.by_score(w, None, 0.5, "filter", norm="l7"), "norm is 'l7'.*l1, l2"),
        (lambda w: masks.by_allocation([w], None, 0.5, "net"), "allocation is 'net'.*layer, global, erk"),
    ],
)
def test_what_is_not_known_is_refused(call: Callable[[torch.Tensor], object], says: str) -> None:
    with pytest.raises(SlimscopeError, match=says):
        call(normal(2, 2))


# ---------------------------------------------------------------- how much of which layer

sizes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3), st.just(3)),
    ),
    min_size=1,
    max_size=6,
)


def test_erk_of_lenet_by_hand() -> None:
    found = masks.erk([(300, 784), (100, 300), (10, 100)], 0.9)
    # sides 1084, 400, 110 share 26,620 weights: the last would keep 1,837 of 1,000, so it keeps all
    # and the others share 25,620: 18,714.3 and 6,905.7
    assert found == [(235_200 - 18_714) / 235_200, (30_000 - 6906) / 30_000, 0.0]


@given(sizes, shares)
def test_erk_keeps_the_total_and_its_proportions(shapes: list[tuple[int, ...]], share: float) -> None:
    found = masks.erk(shapes, share)
    weights = [math.prod(shape) for shape in shapes]
    removed = [round(part * n) for part, n in zip(found, weights, strict=True)]
    assert sum(removed) == round(share * sum(weights))
    assert all(0 <= gone <= n for gone, n in zip(removed, weights, strict=True))
    # the water level, by bisection: density min(1, level * sum of sides / product)
    kept, low, high = sum(weights) - sum(removed), 0.0, float(max(weights))
    for _ in range(200):
        level = (low + high) / 2
        total = sum(min(n, level * sum(shape)) for shape, n in zip(shapes, weights, strict=True))
        low, high = (level, high) if total < kept else (low, level)
    for shape, n, gone in zip(shapes, weights, removed, strict=True):
        assert n - gone == pytest.approx(min(n, high * sum(shape)), abs=1 + 1e-6)


def test_the_scopes_share_out_as_they_say() -> None:
    wide, narrow = normal(40, 30), 1e-4 * normal(10, 20, seed=1)
    for shape in ("element", "filter"):
        each = masks.by_allocation([wide, narrow], None, 0.5, "layer", shape)
        assert [float(mask.float().mean()) for mask in each] == [0.5, 0.5]
        small_first = masks.by_allocation([wide, narrow], None, 0.1, "global", shape)
        assert small_first[0].all()
        assert float(small_first[1].float().mean()) == pytest.approx(0.3)
    erk = masks.by_allocation([wide, narrow], None, 0.5, "erk")
    assert sum(int((~mask).sum()) for mask in erk) == 700
    assert erk[1].float().mean() > erk[0].float().mean()
