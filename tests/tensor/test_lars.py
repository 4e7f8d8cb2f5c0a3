"""The LASSO path against paper, hand and scikit-learn, and the least squares that follows it."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, lars_path_gram
from torch import Tensor

from engine.tensor import lars


def problem(seed: int, samples: int, channels: int, mixed: bool) -> tuple[Tensor, Tensor]:
    """Random inputs (samples, channels) and a target (samples,); mixed ones are strongly correlated."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, channels, generator=chance, dtype=torch.float64)
    if mixed:
        x = x @ (torch.eye(channels) + torch.randn(channels, channels, generator=chance)).double()
    return x, torch.randn(samples, generator=chance, dtype=torch.float64)


def path_of(x: Tensor, y: Tensor) -> lars.Path:
    return lars.path(x.T @ x, x.T @ y)


problems = st.builds(
    problem, st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 20), mixed=st.booleans()
)


# ---------------------------------------------------------------- the path


def test_a_path_of_two_by_hand() -> None:
    # Channel 0 starts at lambda 2. While its factor grows by g, the correlations are 2 - g and 1.5 - g/2:
    # equal at g = 1. From there both factors grow by (2/3) g, to the least squares at (5/3, 2/3).
    path = lars.path(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([2.0, 1.5]))
    assert path.lambdas.tolist() == pytest.approx([2, 1, 0])
    assert path.coefficients.flatten().tolist() == pytest.approx([0, 0, 1, 0, 5 / 3, 2 / 3])
    assert path.supports == ((), (0,), (0, 1))
    assert path.first == (float("inf"), 2.0, 1.0)


def test_a_channel_that_is_dropped_and_comes_back_with_the_other_sign() -> None:
    # 2 joins at 10/3 and 1 at 7/3; at 5/3 the factor of 2 is zero again, from 1/3 on it is negative.
    gram = torch.tensor([[4.0, -2.0, 1.0], [-2.0, 4.0, 2.0], [1.0, 2.0, 4.0]])
    path = lars.path(gram, torch.tensor([6.0, 1.0, 4.0]))
    assert path.lambdas.tolist() == pytest.approx([6, 10 / 3, 7 / 3, 5 / 3, 1 / 3, 0])
    assert path.coefficients[:, 2].tolist() == pytest.approx([0, 0, 0.2, 0, 0, -0.5])
    assert path.coefficients[3].tolist() == pytest.approx([4 / 3, 1 / 2, 0])
    # Two at once are 0 and 2 first, and 0 and 1 later: the first counts.
    assert path.supports == ((), (0,), (0, 2), (0, 1, 2))
    assert path.first == pytest.approx((float("inf"), 6, 10 / 3, 7 / 3))


@given(problems)
def test_scikit_learn_finds_the_same_path(case: tuple[Tensor, Tensor]) -> None:
    x, y = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it says so where samples are few
        theirs, _, factors = lars_path_gram((x.T @ y).numpy(), (x.T @ x).numpy(), n_samples=1, method="lasso")
    path = path_of(x, y)
    expected = torch.from_numpy(factors.T.copy())
    size = float(expected.abs().max())
    assert path.lambdas.tolist() == pytest.approx(theirs.tolist(), abs=1e-8 * float(theirs[0]))
    assert torch.allclose(path.coefficients, expected, atol=1e-6 * size)
    for ours, wanted in zip(path.coefficients, expected, strict=True):
        support = wanted.abs() > 1e-6 * size
        assert torch.equal(ours.abs() > 1e-6 * size, support)


def test_scikit_learns_coordinate_descent_agrees_between_breakpoints() -> None:
    x, y = problem(1, 60, 8, mixed=True)
    path = path_of(x, y)
    for i in range(len(path.lambdas) - 1):
        lasso = Lasso(
            alpha=float(path.lambdas[i : i + 2].mean()) / 60, fit_intercept=False, tol=1e-12, max_iter=10**6
        )
        found = torch.from_numpy(lasso.fit(x.numpy(), y.numpy()).coef_)
        assert torch.allclose(path.coefficients[i : i + 2].mean(0), found, atol=1e-6)


@given(problems, st.lists(st.integers(0, 19), max_size=4), st.booleans())
def test_every_breakpoint_is_optimal_also_with_copies_and_zeros(
    case: tuple[Tensor, Tensor], copied: list[int], zero: bool
) -> None:
    x, y = case
    x = torch.cat([x, *(x[:, [i % x.shape[1]]] for i in copied), *([0 * x[:, :1]] if zero else [])], 1)
    path = path_of(x, y)
    scale = float(path.lambdas[0])
    for level, factors in zip(path.lambdas.tolist(), path.coefficients, strict=True):
        correlation = x.T @ (y - x @ factors)
        assert float(correlation.abs().max()) <= level + 1e-6 * scale
        active = factors.abs() > 1e-6 * float(path.coefficients.abs().max())
        assert torch.allclose(correlation[active], level * factors[active].sign(), atol=1e-6 * scale)
    assert path.lambdas[-1] <= 1e-9 * scale
    assert [len(support) for support in path.supports] == list(range(x.shape[1] + 1))
    assert all(support == tuple(sorted(set(support))) for support in path.supports)
    assert list(path.first) == sorted(path.first, reverse=True)


def test_copies_and_zeros_come_last() -> None:
    x, y = problem(2, 30, 3, mixed=False)
    path = path_of(torch.stack([0 * x[:, 0], x[:, 0], x[:, 1], x[:, 0], x[:, 2]], 1), y)
    assert path.supports[3] == (1, 2, 4)
    assert path.supports[4:] == ((0, 1, 2, 4), (0, 1, 2, 3, 4))
    assert path.first[4:] == (0.0, 0.0)
    assert (path.coefficients[:, [0, 3]] == 0).all()


def test_no_more_channels_come_in_than_there_are_samples() -> None:
    x, y = problem(3, 5, 12, mixed=False)
    path = path_of(x, y)
    assert sum(level > 0 for level in path.first[1:]) == 5
    assert torch.allclose(x @ path.coefficients[-1], y)


def test_a_target_of_zeros_needs_no_channel() -> None:
    path = lars.path(torch.eye(3), torch.zeros(3))
    assert path.supports == ((), (0,), (0, 1), (0, 1, 2))
    assert (path.lambdas.tolist(), path.coefficients.tolist()) == ([0.0], [[0.0] * 3])


# ---------------------------------------------------------------- layers of channels


def layer(seed: int, samples: int, channels: int, width: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (samples, channels * width), original outputs and the weight, all random."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, channels * width, generator=chance, dtype=torch.float64)
    weight = torch.randn(outputs, channels * width, generator=chance, dtype=torch.float64)
    noise = torch.randn(samples, outputs, generator=chance, dtype=torch.float64)
    return x, x @ weight.T + 0.3 * noise, weight


def error(x: Tensor, y: Tensor, weight: Tensor) -> float:
    return float((y - x @ weight.T).norm() / y.norm())


def masked(weight: Tensor, kept: list[int], channels: int) -> Tensor:
    stays = torch.zeros(channels).double()
    stays[kept] = 1
    return weight * stays.repeat_interleave(weight.shape[1] // channels)


def test_what_channels_add_is_in_the_products() -> None:
    x, y, weight = layer(0, 40, 5, 3, 4)
    parts = [x[:, 3 * i : 3 * i + 3] @ weight[:, 3 * i : 3 * i + 3].T for i in range(5)]  # (samples, outputs)
    z = torch.stack([part.flatten() for part in parts], 1)
    gram, target = lars.of_channels(x.T @ x, x.T @ y, weight, 5)
    assert torch.allclose(gram, z.T @ z)
    assert torch.allclose(target, z.T @ y.flatten())


def test_the_refit_is_least_squares() -> None:
    x, y, weight = layer(1, 60, 6, 2, 3)
    kept = [4, 0, 3]
    columns = [0, 1, 6, 7, 8, 9]
    fitted = lars.refit(x.T @ x, x.T @ y, weight, kept, 6)
    expected = torch.linalg.lstsq(x[:, columns], y).solution.T
    assert torch.allclose(fitted[:, columns], expected, atol=1e-7)
    assert fitted.count_nonzero() == expected.numel()


def test_the_error_from_products_is_that_of_the_rows() -> None:
    x, y, weight = layer(2, 50, 4, 3, 5)
    some = masked(weight, [0, 2], 4)
    energy = float(y.square().sum())
    assert lars.relative_error(x.T @ x, x.T @ y, energy, some) == pytest.approx(error(x, y, some))
    assert lars.relative_error(x.T @ x, 0 * (x.T @ y), 0.0, some) == 0.0


def test_a_channel_made_of_others_goes_without_error() -> None:
    x, _, weight = layer(3, 80, 5, 2, 4)
    x[:, 6:8] = 2 * x[:, 0:2] - x[:, 2:4]  # channel 3 from channels 0 and 1
    y = x @ weight.T
    kept = [0, 1, 2, 4]
    assert error(x, y, masked(weight, kept, 5)) > 0.1
    assert error(x, y, lars.refit(x.T @ x, x.T @ y, weight, kept, 5)) < 1e-7


@given(st.integers(0, 10**6), st.integers(1, 40), st.data())
def test_the_refit_is_never_worse_than_the_masked_weights(
    seed: int, samples: int, data: st.DataObject
) -> None:
    x, y, weight = layer(seed, samples, 6, 3, 2)
    kept = data.draw(st.lists(st.integers(0, 5), min_size=1, unique=True))
    for zero in data.draw(st.lists(st.integers(0, 5), max_size=2)):
        x[:, 3 * zero : 3 * zero + 3] = 0
    fitted = lars.refit(x.T @ x, x.T @ y, weight, kept, 6)
    assert error(x, y, fitted) <= error(x, y, masked(weight, kept, 6)) + 1e-7


def test_where_the_data_say_nothing_weights_stay() -> None:
    x, y, weight = layer(4, 30, 3, 2, 2)
    x[:, 2:4] = 0
    fitted = lars.refit(x.T @ x, x.T @ y, weight, [1, 2], 3)
    assert torch.allclose(fitted[:, 2:4], weight[:, 2:4])
    assert torch.equal(lars.refit(0 * (x.T @ x), 0 * (x.T @ y), weight, [1], 3), masked(weight, [1], 3))


# ---------------------------------------------------------------- the claim


def test_the_lasso_keeps_channels_that_chance_would_lose() -> None:
    # Eight of sixteen channels carry the outputs, the others a hundredth of it.
    x, _, weight = layer(5, 300, 16, 2, 6)
    loud = torch.randperm(16, generator=torch.Generator().manual_seed(5))[:8].tolist()
    x = x * (masked(torch.ones(1, 32).double(), loud, 16) + 0.01)
    y = x @ weight.T
    gram, cross = x.T @ x, x.T @ y
    assert lars.path(*lars.of_channels(gram, cross, weight, 16)).supports[8] == tuple(sorted(loud))
