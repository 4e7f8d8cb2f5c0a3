"""Analytic clips: the published constants, a search by scipy, the dealing out of bits, and corrected rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import laplace, norm

from engine.tensor.analytic_clip import LIKELIER, best_clip, corrected, shared_bits, spread

PUBLISHED = {
    "laplace": {2: 2.831, 3: 3.897, 4: 5.029, 8: 9.897},
    "normal": {2: 1.711, 3: 2.152, 4: 2.559, 8: 3.924},
}
CASES = [(name, bits, clip) for name, table in PUBLISHED.items() for bits, clip in table.items()]


@pytest.mark.parametrize(("distribution", "bits", "clip"), CASES)
def test_the_published_constants(distribution: str, bits: int, clip: float) -> None:
    assert best_clip(2**bits, distribution) == pytest.approx(clip, abs=1e-3)


@pytest.mark.parametrize("levels", [3, 7, 16])
@pytest.mark.parametrize("distribution", ["laplace", "normal"])
def test_no_other_clip_has_less_expected_error(distribution: str, levels: int) -> None:
    density = laplace if distribution == "laplace" else norm

    def lost(clip: float) -> float:
        beyond = density.expect(lambda x: (x - clip) ** 2, lb=clip, ub=60)
        return float(2 * beyond + clip**2 / (3 * levels**2))

    found = minimize_scalar(lost, bounds=(0.1, 12), method="bounded", options={"xatol": 1e-6})
    assert best_clip(levels, distribution) == pytest.approx(float(found.x), abs=1e-3)


def test_the_likelier_distribution_is_the_one_that_weights_were_drawn_from() -> None:
    torch.manual_seed(0)
    normal = torch.randn(20, 4000)
    tails = torch.distributions.Laplace(0.0, 1.0).sample((20, 4000))
    assert set(spread(normal, LIKELIER)[1]) == {"normal"}
    assert set(spread(tails, LIKELIER)[1]) == {"laplace"}


def test_zeros_do_not_count_as_weights() -> None:
    rows = torch.tensor([[3.0, -1.0, 0.0, 0.0]])
    assert spread(rows, "laplace")[0].tolist() == [2.0]
    assert spread(rows, "normal")[0].tolist() == pytest.approx([5**0.5])


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20), st.integers(2, 8))
def test_bits_stay_within_the_budget_and_rise_with_the_spread(spreads: list[float], mean: int) -> None:
    bits = shared_bits(torch.tensor(spreads, dtype=torch.float64), mean, 2, 8)
    assert float(bits.double().mean()) <= mean
    assert 2 <= int(bits.min()) <= int(bits.max()) <= 8
    ordered = bits[torch.tensor(spreads).argsort(stable=True)]
    assert len(set(spreads)) < len(spreads) or bool((ordered.diff() >= 0).all())


def test_equal_spreads_have_equal_bits() -> None:
    assert shared_bits(torch.ones(5), 3, 2, 8).tolist() == [3] * 5


def test_corrected_rows_have_the_mean_and_deviation_of_before() -> None:
    torch.manual_seed(1)
    before = torch.randn(6, 200) + 0.3
    used = torch.rand(6, 200) > 0.2
    after = before.round()
    factor, offset = corrected(before, after, used)
    fixed = after.double() * factor[:, None] + offset[:, None]
    for row in range(6):
        a, b = before[row][used[row]].double(), fixed[row][used[row]]
        assert float(b.mean()) == pytest.approx(float(a.mean()), abs=1e-6)
        assert float(b.std()) == pytest.approx(float(a.std()), rel=1e-6)
