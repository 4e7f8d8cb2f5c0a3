"""Which ranks a wish means: tried against all that there are."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from engine.tensor import factors, rank_budget, splits, tucker
from engine.tensor.splits import Pair, Split, Triple


def weight(*shape: int, seed: int = 0) -> Tensor:
    raw = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    fall = torch.arange(1.0, shape[0] + 1).pow(-1.0).reshape(-1, *(1,) * (len(shape) - 1))
    turn = torch.linalg.qr(torch.randn(shape[0], shape[0], generator=torch.Generator().manual_seed(seed))).Q
    return torch.tensordot(turn, raw * fall, 1)


def pair(*shape: int, seed: int = 0) -> Pair:
    form = "linear" if len(shape) == 2 else "channel"
    return Pair(factors.decompose(weight(*shape, seed=seed), form))


def triple(*shape: int, seed: int = 0) -> Triple:
    return Triple(tucker.decompose(weight(*shape, seed=seed)))


SPLITS = [pair(9, 14), pair(6, 4, 3, 3), triple(6, 5, 3, 3)]


def everything(split: Split) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(1, most + 1) for most in split.full)))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_an_energy_is_kept_with_the_fewest_weights_and_a_share_filled_best(
    split: Split, share: float
) -> None:
    enough = [ranks for ranks in everything(split) if split.kept(ranks) >= share]
    assert split.weights(split.for_energy(share)) == min(map(split.weights, enough))
    assert split.kept(split.for_energy(share)) >= share
    room = share * math.prod(split.shape)
    small = [ranks for ranks in everything(split) if split.weights(ranks) <= room]
    if small:
        assert split.kept(split.for_share(share)) == max(map(split.kept, small))
        assert split.weights(split.for_share(share)) <= room
    else:
        assert split.for_share(share) == (1,) * len(split.full)


@pytest.mark.parametrize("split", SPLITS)
def test_options_save_weights_and_each_that_costs_more_keeps_more(split: Split) -> None:
    found = split.options
    assert (found.weights < math.prod(split.shape)).all()
    for weights, lost, ranks in zip(found.weights, found.lost, found.ranks, strict=True):
        assert (split.weights(ranks), 1 - split.kept(ranks)) == (weights, pytest.approx(lost, abs=1e-12))
    assert all(found.weights[1:] > found.weights[:-1])
    assert all(found.lost[1:] < found.lost[:-1])


@pytest.mark.parametrize("split", SPLITS)
def test_the_product_is_off_by_the_error(split: Split) -> None:
    whole = split.product(split.full)
    for ranks in everything(split)[:: max(len(everything(split)) // 6, 1)]:
        off = float((split.product(ranks) - whole).norm() / whole.norm())
        assert off == pytest.approx(split.error(ranks), abs=1e-5)
        assert sum(layer.numel() for layer in split.layers(ranks)) == split.weights(ranks)


@pytest.mark.parametrize("budget", [60, 120, 200, 330, 1000])
def test_under_a_budget_no_other_ranks_lose_less(budget: int) -> None:
    """All of three layers, one of them Tucker's, are tried, whole ones as well."""
    layers = [pair(5, 8), pair(7, 6, seed=1), triple(4, 3, 3, 3, seed=2)]
    tried = [
        [(split.weights(ranks), 1 - split.kept(ranks)) for ranks in everything(split)]
        + [(math.prod(split.shape), 0.0)]
        for split in layers
    ]
    all_of_them = [(sum(w for w, _ in each), sum(x for _, x in each)) for each in itertools.product(*tried)]
    least = min(lost for weights, lost in all_of_them if weights <= budget)
    found = rank_budget.within(layers, budget)
    pairs = list(zip(layers, found, strict=True))
    assert sum(1 - own.kept(at) for own, at in pairs if at) == pytest.approx(least, abs=1e-9)
    assert sum(own.weights(at) if at else math.prod(own.shape) for own, at in pairs) <= budget


def test_a_budget_that_is_too_small_gives_the_lowest_ranks() -> None:
    layers = [pair(5, 8), triple(4, 3, 3, 3)]
    assert rank_budget.within(layers, 1) == [(1,), (1, 1)]
    assert [rank_budget.fewest(40, layers[0].options), rank_budget.fewest(108, layers[1].options)] == [13, 16]
    assert rank_budget.fewest(8, pair(1, 8).options) == 8


def test_own_ranks_go_as_far_as_the_layer_and_one_number_is_both() -> None:
    two, one = triple(6, 2, 3, 3), pair(3, 9)
    assert splits.own(two, 4) == splits.own(two, 4, 9) == (4, 2)
    assert splits.own(two, None, 2) == (2, 2)
    assert splits.own(two, None) is None
    assert (splits.own(one, 4, 1), splits.own(one, None, 1)) == ((3,), None)
    assert (splits.chosen(two, "rank", 5), splits.chosen(one, "rank", 2)) == ((5, 2), (2,))
