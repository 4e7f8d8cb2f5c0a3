"""SparseGPT's columns: against the surgeon's closed form, least squares, and all choices of weights."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from engine.tensor import gptq, masks, sparse_gpt
from engine.types import SlimscopeError


def layer(seed: int, outputs: int = 3, inputs: int = 12, points: int = 200) -> tuple[Tensor, Tensor]:
    """Rows whose columns go together, as those of images do, and a weight."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(points, 3, generator=rng) @ torch.randn(3, inputs, generator=rng)
    return rows + 0.5 * torch.randn(points, inputs, generator=rng), torch.randn(
        outputs, inputs, generator=rng
    )


def surgeon(
    weight: Tensor, hessian: Tensor, block: int, sparsity: float, pattern: tuple[int, int] | None
) -> Tensor:
    """By the closed form: the Hessian of the columns that are left is inverted anew at each column."""
    left, inputs = weight.double().clone(), weight.shape[1]
    stays = torch.ones(weight.shape, dtype=torch.bool)
    for q in range(inputs):
        inverse = torch.linalg.inv(hessian[q:, q:])
        if q % block == 0:
            width = min(block, inputs - q)
            diagonal = [float(torch.linalg.inv(hessian[q + i :, q + i :])[0, 0]) for i in range(width)]
            part = torch.where(weight[:, q : q + width] != 0, left[:, q : q + width], 0.0)
            worth = part.square() / torch.tensor(diagonal, dtype=torch.float64)
            chosen = (
                masks.by_pattern(part, worth, *pattern) if pattern else masks.by_score(part, worth, sparsity)
            )
            stays[:, q : q + width] = chosen
        gone = torch.where(stays[:, q], 0.0, left[:, q])
        left[:, q:] -= (gone / inverse[0, 0])[:, None] * inverse[0]
    return torch.where(stays, left, 0.0).float()


@pytest.mark.parametrize("pattern", [None, (2, 4), (1, 3)])
def test_each_column_goes_and_is_made_up_for_as_the_surgeons_closed_form_says(
    pattern: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_gpt, "BLOCK", 5)  # the last block is shorter
    for seed in range(4):
        rows, weight = layer(seed)
        weight[:, seed] = 0.0
        hessian = gptq.hessian(rows, 0.01)
        ours = sparse_gpt.pruned(weight, hessian, 0.5, pattern)
        block = pattern[1] if pattern else 5
        assert torch.allclose(ours, surgeon(weight, hessian, block, 0.5, pattern), atol=1e-5)
        assert not ours[:, seed].any()


def test_where_the_first_columns_go_the_rest_is_the_solution_of_least_squares() -> None:
    rows, weight = layer(1, outputs=2, inputs=6)
    weight[:, :3] *= 1e-3  # so that these go
    hessian = gptq.hessian(rows, 1e-9)
    ours = sparse_gpt.pruned(weight, hessian, 0.5)
    wanted = torch.linalg.lstsq(rows[:, 3:].double(), (rows @ weight.T).double()).solution.T
    assert not ours[:, :3].any()
    assert torch.allclose(ours[:, 3:].double(), wanted, atol=1e-4)


def lost(rows: Tensor, weight: Tensor, other: Tensor) -> float:
    return float((rows @ (other - weight).T).square().mean())


def test_it_lies_between_the_best_choice_of_all_refitted_and_the_smallest_weights() -> None:
    total = torch.zeros(3)
    for seed in range(4):
        rows, weight = layer(seed, outputs=2, inputs=8)
        ours = sparse_gpt.pruned(weight, gptq.hessian(rows, 1e-6), 0.5)
        plain = weight * masks.by_sparsity(weight, 0.5)
        best = torch.zeros_like(weight)
        for output, row in enumerate(weight):
            goal = rows @ row
            fits = []
            for chosen in combinations(range(8), 4):
                own = rows[:, chosen]
                fitted = torch.linalg.lstsq(own, goal[:, None]).solution[:, 0]
                fits.append((float((own @ fitted - goal).square().mean()), chosen, fitted))
            _, chosen, fitted = min(fits, key=lambda each: each[0])
            best[output, list(chosen)] = fitted
        total += torch.tensor([lost(rows, weight, each) for each in (best, ours, plain)])
    assert total[0] < total[1] < 0.5 * total[2]


def test_without_making_up_what_stays_is_as_it_was() -> None:
    rows, weight = layer(2)
    after = sparse_gpt.pruned(weight, gptq.hessian(rows, 0.01), 0.5, update=False)
    kept = after != 0
    assert int(kept.sum()) == 18
    assert torch.equal(after[kept], weight[kept])


def test_where_inputs_have_nothing_to_do_with_each_other_it_is_pruning_by_size() -> None:
    _, weight = layer(3, outputs=8, inputs=100)
    for sparsity in (0.0, 0.3, 0.9):
        after = sparse_gpt.pruned(weight, torch.eye(100, dtype=torch.float64), sparsity)
        assert torch.equal(after, weight * masks.by_sparsity(weight, sparsity))


@pytest.mark.parametrize("pattern", [(2, 5), (0, 4), (5, 4)])
def test_a_pattern_that_does_not_fit_is_refused(pattern: tuple[int, int]) -> None:
    with pytest.raises(SlimscopeError, match="in a row of 12 inputs: allowed are"):
        sparse_gpt.pruned(layer(0)[1], torch.eye(12, dtype=torch.float64), 0.5, pattern)
