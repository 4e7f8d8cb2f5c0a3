"""Learned rounding of one layer: against all ways to round it, and what the schedule is."""

from itertools import product

import pytest
import torch
from torch import Tensor

from engine.tensor.learned_rounding import beta_at, latent_of, learn, rectified

STEPS = 600


def layer(seed: int, outputs: int = 2, inputs: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Rows whose columns go together, as those of images do, a weight, and a scale for each output."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(400, 3, generator=rng) @ torch.randn(3, inputs, generator=rng)
    rows += torch.randn(400, inputs, generator=rng)
    weight = torch.randn(outputs, inputs, generator=rng)
    return rows, weight, weight.abs().amax(1) / 3


def lost(rows: Tensor, weight: Tensor, scale: Tensor, codes: Tensor) -> float:
    return float((rows @ (codes * scale[:, None] - weight).T).square().mean())


def best_of_all(rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Codes of least error, by trying all 2^inputs ways to round each output."""
    ways = torch.tensor(list(product((0, 1), repeat=weight.shape[1])), dtype=torch.float32)
    found = []
    for row, step in zip(weight, scale, strict=True):
        codes = ((row / step).floor() + ways).clamp(-3, 3)
        found.append(codes[((codes * step - row) @ rows.T).square().mean(1).argmin()])
    return torch.stack(found)


def test_it_comes_nearer_to_the_best_of_all_ways_to_round_than_to_the_nearest_levels() -> None:
    found = []
    for seed in range(6):
        rows, weight, scale = layer(seed)
        codes = learn(rows, rows @ weight.T, weight, scale, 3, STEPS, 0)
        free = weight / scale[:, None]
        assert float((codes - free).abs().max()) < 1 + 1e-5, "one of the two levels around each weight"
        each = (best_of_all(rows, weight, scale), codes, free.round())
        optimum, ours, plain = (lost(rows, weight, scale, one) for one in each)
        assert ours >= optimum - 1e-6
        found.append((ours - optimum, plain - optimum))
    ours, plain = (sum(each) for each in zip(*found, strict=True))
    assert ours < 0.5 * plain


def test_zeros_stay_and_the_same_seed_gives_the_same_codes() -> None:
    rows, weight, scale = layer(9)
    weight[:, ::2] = 0.0
    told: list[float] = []
    once = learn(rows, rows @ weight.T, weight, scale, 3, 100, 5, told.append)
    assert bool((once[:, ::2] == 0).all())
    assert torch.equal(once, learn(rows, rows @ weight.T, weight, scale, 3, 100, 5))
    assert told == [number / 100 for number in range(100)]


def test_shares_go_through_the_sigmoid_and_back_and_beta_falls() -> None:
    shares = torch.linspace(0, 1, 11)
    assert torch.allclose(rectified(latent_of(shares)), shares, atol=1e-6)
    assert [beta_at(done) for done in (0.0, 0.2, 0.6, 1.0)] == [20, 20, pytest.approx(11), 2]
