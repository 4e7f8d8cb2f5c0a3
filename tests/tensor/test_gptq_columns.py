"""GPTQ's columns: against optimal brain surgeon's closed form, nearest levels, and all ways to round."""

from itertools import product

import pytest
import torch
from torch import Tensor

from engine.tensor import gptq, grids
from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import named


def layer(seed: int, outputs: int = 3, inputs: int = 10, points: int = 200) -> tuple[Tensor, Tensor]:
    """Rows whose columns go together, as those of images do, and a weight."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(points, 3, generator=rng) @ torch.randn(3, inputs, generator=rng)
    return rows + 0.5 * torch.randn(points, inputs, generator=rng), torch.randn(
        outputs, inputs, generator=rng
    )


def over(grid: AffineGrid) -> tuple[Tensor, Tensor]:
    return tuple(grid.granularity.over(x, grid.shape) for x in (grid.scale, grid.zero))  # type: ignore[return-value]


def surgeon(
    weight: Tensor, grid: AffineGrid, ends: tuple[int, int], hessian: Tensor, order: list[int]
) -> Tensor:
    """Codes by the closed form: the Hessian of the columns that are left is inverted anew at each column."""
    scale, zero = over(grid)
    left, codes = weight.double().clone(), torch.zeros_like(grid.codes)
    for number, q in enumerate(order):
        behind = order[number:]
        inverse = torch.linalg.inv(hessian[behind][:, behind])
        free = (left[:, q].float() / scale[:, q]).round() + zero[:, q]
        codes[:, q] = torch.where(weight[:, q] == 0, zero[:, q], free.clamp(*ends).int())
        level = ((codes[:, q] - zero[:, q]) * scale[:, q]).double()
        share = (left[:, q] - level) / inverse[0, 0]
        left[:, behind] -= share[:, None] * inverse[0]
    return codes


@pytest.mark.parametrize("word", ["tensor", "channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_each_column_is_rounded_and_made_up_for_as_the_surgeons_closed_form_says(
    word: str, symmetric: bool, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gptq, "BLOCK", 4)  # the last block is shorter
    ends = code_range(3, symmetric)
    for seed in range(5):
        rows, weight = layer(seed)
        weight[:, seed] = 0.0
        hessian = gptq.hessian(rows, 0.01)
        order = hessian.diagonal().argsort(descending=True).tolist() if ordered else list(range(10))
        grid = grids.quantize(weight, 3, symmetric, named(word, 4))
        ours = gptq.rounded(weight, *over(grid), ends, hessian, ordered)
        assert ours.dtype == torch.int32
        assert torch.equal(ours, surgeon(weight, grid, ends, hessian, order))
        assert not torch.equal(ours, grid.codes)


def test_the_factor_holds_the_inverse_of_what_is_left_at_every_column() -> None:
    hessian = gptq.hessian(layer(0)[0], 0.01)
    factor = gptq.inverse_factor(hessian)
    assert torch.equal(factor, factor.triu())
    for q in range(10):
        assert torch.allclose(factor[q:, q:].T @ factor[q:, q:], torch.linalg.inv(hessian[q:, q:]))


@pytest.mark.parametrize("word", ["tensor", "channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_where_inputs_have_nothing_to_do_with_each_other_it_is_rounding_to_nearest(
    word: str, symmetric: bool, bits: int
) -> None:
    _, weight = layer(7, outputs=8, inputs=300)
    weight[0, ::3] = 0.0
    grid = grids.quantize(weight, bits, symmetric, named(word, 16))
    for hessian in (torch.eye(300, dtype=torch.float64), gptq.hessian(torch.zeros(5, 300), 0.01)):
        codes = gptq.rounded(weight, *over(grid), code_range(bits, symmetric), hessian)
        assert torch.equal(codes, grid.codes)


def lost(rows: Tensor, weight: Tensor, scale: Tensor, codes: Tensor) -> float:
    return float((rows @ (codes * scale - weight).T).square().mean())


def test_it_lies_between_the_best_of_all_ways_to_round_and_the_nearest_levels() -> None:
    """Columns go up or down: 2^8 ways for each output."""
    ways = torch.tensor(list(product((0, 1), repeat=8)), dtype=torch.float32)
    total = torch.zeros(3)
    for seed in range(6):
        rows, weight = layer(seed, outputs=2, inputs=8)
        grid = grids.quantize(weight, 3, True, named("channel", 1))
        scale = over(grid)[0]
        codes = gptq.rounded(weight, *over(grid), (-3, 3), gptq.hessian(rows, 0.01))
        best = []
        for row, step in zip(weight, scale, strict=True):
            tried = ((row / step).floor() + ways).clamp(-3, 3)
            best.append(tried[((tried * step - row) @ rows.T).square().mean(1).argmin()])
        each = (torch.stack(best), codes, grid.codes)
        total += torch.tensor([lost(rows, weight, scale, one) for one in each])
    assert total[0] < total[1] < 0.75 * total[2]


def test_zeros_stay_though_they_were_to_make_up_for_others() -> None:
    rows, weight = layer(3)
    weight[:, 1::2] = 0.0
    for symmetric in (True, False):
        grid = grids.quantize(weight, 3, symmetric, named("channel", 1))
        scale, zero = over(grid)
        codes = gptq.rounded(weight, scale, zero, code_range(3, symmetric), gptq.hessian(rows, 0.01))
        assert bool(((codes - zero)[:, 1::2] == 0).all())
