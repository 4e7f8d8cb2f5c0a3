"""Scores: by hand, exact where theory says so, and the same promise of all: zero is worth nothing."""

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.tensor import masks, scores

ALL: dict[str, Callable[[Tensor], Tensor]] = {
    "magnitude": scores.magnitude,
    "chance": lambda w: scores.chance(w, 3),
    "taylor": lambda w: scores.taylor(w, torch.full_like(w, -0.7)),
    "brain_damage": lambda w: scores.brain_damage(w, torch.full_like(w, 0.2)),
    "wanda": lambda w: scores.wanda(w, torch.linspace(0, 2, w.shape[1])),
    "normal_scale": lambda w: scores.normal_scale(w, torch.linspace(-1, 2, len(w))),
}
matrices = st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=5).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32)
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    weight = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    assert scores.magnitude(weight).tolist() == [[2.0, 1.0], [0.0, 3.0]]
    gradient = torch.tensor([[0.5, 4.0], [9.0, -1.0]])
    assert scores.taylor(weight, gradient).tolist() == [[1.0, 4.0], [0.0, 3.0]]
    curvature = torch.tensor([[0.5, 4.0], [9.0, 2.0]])
    assert scores.brain_damage(weight, curvature).tolist() == [[1.0, 2.0], [0.0, 9.0]]
    assert scores.normal_scale(weight, torch.tensor([-0.1, 3.0])).tolist() == [
        [pytest.approx(0.1)] * 2,
        [0.0, 3.0],
    ]


@pytest.mark.parametrize("name", list(ALL))
@given(weight=matrices)
def test_no_score_is_negative_and_zeros_are_worth_nothing(name: str, weight: Tensor) -> None:
    found = ALL[name](weight)
    assert found.shape == weight.shape
    assert bool((found >= 0).all())
    assert not found[weight == 0].any()


def test_taylor_is_exact_for_a_linear_loss_and_brain_damage_at_a_quadratic_minimum() -> None:
    weight, slope, bend = normal(4, 5), normal(4, 5, seed=1), normal(4, 5, seed=2).abs()

    def linear(w: Tensor) -> Tensor:
        return (slope * w).sum()

    def quadratic(w: Tensor) -> Tensor:
        return (bend * (w - weight).square()).sum() / 2  # its second derivatives are diagonal

    for loss, found in (
        (linear, scores.taylor(weight, slope)),
        (quadratic, scores.brain_damage(weight, bend)),
    ):
        for at in ((0, 0), (2, 3), (3, 4)):
            without = weight.clone()
            without[at] = 0.0
            assert float((loss(without) - loss(weight)).abs()) == pytest.approx(float(found[at]), abs=1e-5)


def test_chance_is_fixed_by_its_seed_and_knows_nothing_of_the_weights() -> None:
    small, large = normal(100, 50), 1e3 * normal(100, 50, seed=1)
    assert torch.equal(scores.chance(small, 7), scores.chance(large, 7))
    assert not torch.equal(scores.chance(small, 7), scores.chance(small, 8))
    found = scores.chance(small, 7)
    assert found.unique().numel() == found.numel()
    assert float(found.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / 5000) ** 0.5)


def test_a_scale_reaches_all_of_a_filter() -> None:
    weight, scale = normal(3, 2, 3, 3), torch.tensor([1.0, -2.0, 0.5])
    found = scores.normal_scale(weight, scale)
    assert found.flatten(1).unique(dim=1).flatten().tolist() == [1.0, 2.0, 0.5]


def test_where_inputs_are_independent_no_other_choice_of_a_row_does_less_harm_than_wandas() -> None:
    """Independent inputs: orthogonal columns, here of lengths 1 to 8; all ways to keep 4 of 8 are tried."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(50, 8, generator=rng))[0] * torch.arange(1.0, 9.0)
    weight = torch.randn(5, 8, generator=rng)
    kept = masks.by_row(weight, scores.wanda(weight, rows.norm(dim=0)), 0.5)
    for row, stays in zip(weight, kept, strict=True):
        harm = {gone: float((rows[:, gone] @ row[list(gone)]).norm()) for gone in combinations(range(8), 4)}
        chosen = tuple((~stays).nonzero().flatten().tolist())
        assert harm[chosen] == min(harm.values())
