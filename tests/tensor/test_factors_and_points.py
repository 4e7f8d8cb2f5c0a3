"""AWQ's factors and HQQ's zero points: by hand, against plain loops, and never worse than nearest levels."""

import math

import pandas as pd
import pytest
import torch
from torch import Tensor

from engine.tensor import awq, gptq, grids, hqq
from engine.tensor.formats import AffineGrid, Levels, Scaled, Shifted
from engine.tensor.formats.shifted import parts_of_step
from engine.tensor.granularity import per_group
from engine.tensor.weight_only import METHODS, Way, compared, scaled, winner


def layer(seed: int = 0, outputs: int = 6, inputs: int = 24) -> tuple[Tensor, Tensor]:
    """Weights with a few large ones, and rows of which some inputs are much larger than others."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=rng) ** 3
    rows = torch.randn(100, inputs, generator=rng) * torch.logspace(-1, 1, inputs)
    return weight, rows @ (torch.eye(inputs) + 0.3 * torch.rand(inputs, inputs, generator=rng))


def lost(rows: Tensor, weight: Tensor, other: Tensor) -> float:
    return float((rows @ (other - weight).T).double().square().sum())


# ---------------------------------------------------------------- AWQ


def test_alpha_zero_is_rounding_to_nearest() -> None:
    weight, rows = layer()
    way = Way("awq", 3, 8)
    factor = awq.factors(rows.abs().mean(0), 0.0)
    assert factor.tolist() == [1.0] * 24
    made = scaled(weight, factor, way)
    assert isinstance(made, AffineGrid)
    assert torch.equal(made.codes, way.nearest(weight).codes)


def test_the_best_of_all_alphas_is_found_as_a_plain_loop_does() -> None:
    weight, rows = layer(1)
    way = Way("awq", 3, 8)
    found = way.searched([weight], rows)
    for step in range(awq.STEPS + 1):
        factor = awq.factors(rows.abs().mean(0), step / awq.STEPS)
        other = grids.quantize(weight * factor, 3, False, per_group(8)).decode() / factor
        assert float(found.errors[step]) == pytest.approx(lost(rows, weight, other), rel=1e-4)
    assert found.alpha == int(found.errors.argmin()) / awq.STEPS
    assert 0 < found.alpha <= 1
    made = scaled(weight, found.factor, way)
    assert isinstance(made, Scaled)
    made.check("w")
    assert lost(rows, weight, made.decode()) == pytest.approx(float(found.errors.min()), rel=1e-4)


def test_layers_that_read_the_same_share_their_factors() -> None:
    one, rows = layer(2)
    other, _ = layer(3)
    way = Way("awq", 2, 8)
    both = way.searched([one, other], rows).errors
    assert torch.allclose(both, way.searched([one], rows).errors + way.searched([other], rows).errors)


def test_a_convolution_has_a_factor_for_each_channel() -> None:
    rows = torch.arange(12.0).reshape(1, 12)  # two inputs, a kernel of 2 x 3
    assert awq.sizes_of(rows, 2).tolist() == [2.5, 8.5]
    weight = torch.randn(3, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    made = scaled(weight, torch.tensor([0.5, 2.0]), Way("awq", 8, 8))
    assert torch.allclose(made.decode(), weight, atol=0.05)


# ---------------------------------------------------------------- HQQ


def loop(row: list[float], scale: float, zero: int, bits: int, p: float) -> tuple[float, list[float]]:
    """One tile number by number: its best zero point, and the objective of each point that came by."""
    top, parts, beta = 2**bits - 1, parts_of_step(bits), hqq.BETA
    steps = [w / scale for w in row if w != 0]

    def codes(point: float) -> list[int]:
        return [min(max(round(u + point), 0), top) for u in steps]

    def objective(point: float) -> float:
        return sum(abs(u - (c - point)) ** p for u, c in zip(steps, codes(point), strict=True))

    point, points = float(zero), [float(zero)]
    for _ in range(hqq.ROUNDS):
        ideal = []
        for u, c in zip(steps, codes(point), strict=True):
            off = u - (c - point)
            size = max(abs(off) - abs(off) ** (p - 1) / beta, 0.0) if off else 0.0
            ideal.append(c - (u - math.copysign(size, off)))
        point = min(max(round(sum(ideal) / len(ideal) * parts), 0), 255) / parts
        points.append(point)
        beta *= hqq.KAPPA
    said = [objective(each) for each in points]
    return points[said.index(min(said))], said


@pytest.mark.parametrize("bits", [2, 4])
def test_zero_points_are_those_of_a_plain_loop(bits: int) -> None:
    weight, _ = layer(4)
    weight[0, ::3] = 0.0
    made = hqq.quantized(weight, bits, per_group(8), "minmax", 0.7)
    grid = grids.quantize(weight, bits, False, per_group(8))
    assert isinstance(made, Shifted)
    made.check("w")
    same = 0
    for number in range(len(made.scale)):
        row = grid.granularity.members(weight, number).tolist()
        best, said = loop(row, float(made.scale[number]), int(grid.zero[number]), bits, 0.7)
        same += int(made.zero[number]) / parts_of_step(bits) == best
        assert min(said) <= said[0]
    assert same >= len(made.scale) - 1  # a tie in 32 bits may be none in 64
    assert not made.decode()[0, ::3].any()


@pytest.mark.parametrize("p", [0.3, 0.7, 1.0])
def test_the_objective_is_never_above_that_of_nearest_levels(p: float) -> None:
    weight, _ = layer(5, outputs=20)
    for bits in (2, 3, 8):
        made = hqq.quantized(weight, bits, per_group(8), "minmax", p)
        nearest = grids.quantize(weight, bits, False, per_group(8))
        over = [nearest.granularity.over(each, weight.shape) for each in (nearest.scale, nearest.zero)]
        sums = []
        for param in (made, nearest):
            off = ((param.decode() - weight) / over[0]).abs().double() ** p
            sums.append(torch.stack([t.sum(1) for _, t in per_group(8).cut(off)]).flatten())
        assert bool((sums[0] <= sums[1] + 1e-5).all())
        assert float(sums[0].sum()) < float(sums[1].sum()) or bits == 8


def test_a_zero_point_between_two_codes_by_hand() -> None:
    """Weights of -0.3 and 0.7 steps: zero point 0 leaves errors of 0.3, all alike, and 0.3 leaves none.

    Split off are 0.3 - 0.3^-0.3 / 10 = 0.157 steps first, so the point moves to 0.14 (18 of 128 parts); then
    errors are small enough to be none, and it moves to 0.3 (38 parts).
    """
    made = hqq.quantized(torch.tensor([[-0.6, 1.4, -0.6, 1.4]]), 1, per_group(4), "minmax", 0.7)
    assert made.codes.tolist() == [[0, 1, 0, 1]]
    assert made.zero.tolist() == [38]
    assert made.decode()[0, :2].tolist() == pytest.approx([-2 * 38 / 128, 2 - 2 * 38 / 128])
    assert made.fixed_bits() == 8 + 32 + 8


# ---------------------------------------------------------------- side by side


def test_each_method_is_what_it_says() -> None:
    weight, rows = layer(6)
    assert type(Way("nf4", 4, 8).fitted(weight, rows)) is Levels
    assert type(Way("hqq", 3, 8).alone(weight)) is Shifted
    nearest = Way("rtn", 3, 8).fitted(weight, rows)
    for method in ("gptq", "awq"):
        assert torch.equal(Way(method, 3, 8).alone(weight).decode(), nearest.decode())
        fitted = Way(method, 3, 8).fitted(weight, rows)
        assert lost(rows, weight, fitted.decode()) < lost(rows, weight, nearest.decode())
    ours = Way("gptq", 3, 8, act_order=False).fitted(weight, rows)
    assert isinstance(ours, AffineGrid)
    scale, zero = (per_group(8).over(each, weight.shape) for each in (ours.scale, ours.zero))
    codes = gptq.rounded(weight, scale, zero, (0, 7), gptq.hessian(rows, 0.01))
    assert torch.equal(ours.codes, codes)


def test_the_table_counts_every_bit_and_names_the_least_error() -> None:
    weight, rows = layer(7)
    ways = [Way(method, 3, 8) for method in METHODS]
    table = compared(weight, rows[:80], rows[80:], ways).set_index("method")
    nearest_bits = 3 + (18 * 32 + 56) / 144  # of 18 groups; their zero points take 54 bits, and whole bytes
    assert table.loc["rtn", "bits_per_weight"] == pytest.approx(nearest_bits)
    assert table.loc["gptq", "bits_per_weight"] == pytest.approx(nearest_bits)
    assert table.loc["awq", "bits_per_weight"] == pytest.approx(nearest_bits + 16 / 6)
    assert table.loc["hqq", "bytes"] == 144
    assert table.loc["hqq", "bits_per_weight"] == 3 + (32 + 8) / 8
    assert table.loc["nf4", "bits_per_weight"] == 4 + 32 / 8
    nearest = ways[0].nearest(weight).decode()
    share = (lost(rows[80:], weight, nearest) / lost(rows[80:], weight, torch.zeros(6, 24))) ** 0.5
    assert table.loc["rtn", "error"] == pytest.approx(share, rel=1e-5)
    assert winner(table.reset_index()) == table["error"].idxmin()
    assert isinstance(table, pd.DataFrame)
