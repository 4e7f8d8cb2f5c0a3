"""Calibration methods against onnxruntime, torch, the slides and brute force; rounding by chance."""

import itertools
import math

import numpy as np
import pytest
import torch
from onnxruntime.quantization.calibrate import HistogramCollector
from torch.ao.quantization import MovingAverageMinMaxObserver

from engine.tensor import analytic_clip, calibrate, grids
from engine.tensor.affine import stored_affine
from engine.tensor.calibrate import divergences, entropy_clip, moving_average, span
from engine.tensor.granularity import per_axis
from engine.tensor.stochastic import uniform


def laplace(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=count).astype(np.float32)


def collected(values: np.ndarray, bins: int, percentile: float) -> HistogramCollector:
    """onnxruntime's histogram of values."""
    collector = HistogramCollector("percentile", True, bins, 128, percentile, "")
    collector.collect_value({"x": values})
    return collector


def on_slides(counts: np.ndarray, levels: int) -> list[float]:
    """Migacz's pseudo code, line by line: the divergence of a clip at each bin from `levels` on."""
    found = []
    for i in range(levels, len(counts) + 1):
        reference, kept = counts[:i].copy(), counts[:i]
        reference[-1] += counts[i:].sum()
        there, candidate = reference > 0, np.zeros(i)
        cuts = [*(j * (i // levels) for j in range(levels)), i]
        for start, stop in itertools.pairwise(cuts):
            if there[start:stop].any():
                share = kept[start:stop].sum() / there[start:stop].sum()
                candidate[start:stop] = np.where(there[start:stop], share, 0)
        p, q = reference[there] / reference.sum(), candidate[there] / max(candidate.sum(), 1e-300)
        found.append(float((p * np.log(p / q)).sum()) if (q > 0).all() else math.inf)
    return found


@pytest.mark.parametrize("levels", [1, 2, 8, 128])
def test_divergences_are_those_of_the_slides(levels: int) -> None:
    for seed, count in ((0, 60), (1, 3000)):
        magnitudes = np.abs(laplace(count, seed))
        counts = np.histogram(magnitudes, 200, (0, magnitudes.max()))[0].astype(np.float64)
        expected = on_slides(counts, levels)
        assert divergences(counts[None], levels)[0] == pytest.approx(expected, abs=1e-12)


def test_the_clip_of_least_divergence_is_where_an_even_distribution_ends() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-1, 1, 400_000), [4.0, -4.0]]).astype(np.float32)
    clip = float(entropy_clip(torch.from_numpy(values)[None], 128))
    assert abs(clip - 1) <= 4 / 2048, "one bin of 2,048"
    low, high = span(torch.from_numpy(np.abs(values))[None], 8, False, "kl")
    assert (float(low), float(high)) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=4 / 2048))


def test_zeros_and_rows_of_few_values_do_not_move_the_clip() -> None:
    values = torch.from_numpy(laplace(20_000))[None]
    zeros = torch.cat([values, torch.zeros(1, 20_000)], 1)
    assert float(entropy_clip(zeros, 64)) == float(entropy_clip(values, 64))
    few = values[:, :50]
    assert float(entropy_clip(few, 128)) == float(few.abs().max()), (
        "more levels than bins: nothing is clipped"
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_extremes_and_percentiles_are_onnxruntimes(symmetric: bool) -> None:
    values = laplace(50_000)
    collector = collected(values, 4096, 99.5)
    collector.symmetric = symmetric
    if symmetric:  # its symmetric percentiles are of magnitudes
        collector.histogram_dict = {}
        collector.collect_absolute_value({"x": values})
    _, _, least, largest, *_ = collector.histogram_dict["x"]
    rows, width = torch.from_numpy(values)[None], 2 * float(np.abs(values).max()) / 4096
    assert [float(end) for end in span(rows, 8, symmetric, "minmax")] == [float(least), float(largest)]
    low, high, *_ = collector.compute_percentile()["x"]
    ours = [float(end) for end in span(rows, 8, symmetric, "percentile", 99.5)]
    assert ours == pytest.approx([float(low), float(high)], abs=width)


def test_a_moving_average_is_torchs() -> None:
    batches = [torch.from_numpy(laplace(40, seed)) for seed in range(30)]
    observer = MovingAverageMinMaxObserver(averaging_constant=0.01)
    for batch in batches:
        observer(batch)
    lows, highs = (torch.stack([f(b) for b in batches]) for f in (torch.min, torch.max))
    assert float(moving_average(lows)) == pytest.approx(float(observer.min_val), abs=1e-5)
    assert float(moving_average(highs)) == pytest.approx(float(observer.max_val), abs=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("is_relu", [False, True])
def test_the_analytic_clip_is_near_the_best_of_its_distribution(
    bits: int, symmetric: bool, is_relu: bool
) -> None:
    rng = np.random.default_rng(3)
    for draw in (rng.laplace, rng.normal):
        values = torch.from_numpy(draw(size=100_000).astype(np.float32))
        values = values.clamp(min=0) if is_relu else values

        def lost(clip: float, values: torch.Tensor = values) -> float:
            low = torch.tensor(0.0 if is_relu and not symmetric else -clip)
            grid = grids.on_range(values, low, torch.tensor(clip), bits, symmetric)
            return grids.error(values, grid, symmetric).mse

        ours = lost(float(span(values[None], bits, symmetric, "aciq")[1]))
        best = min(lost(clip) for clip in np.linspace(0.3, float(values.max()), 150))
        # The formula spreads round-off evenly over every step, which levels of 2 bits do not.
        assert ours <= best * (1.35 if bits == 2 else 1.15)


def test_the_formula_counts_the_steps_of_the_grid() -> None:
    values = torch.from_numpy(laplace(1000))[None]
    spread, kinds = analytic_clip.spread(values, "likelier")
    assert kinds == ["laplace"]
    for symmetric, steps in ((True, 14), (False, 15)):
        expected = float(spread) * analytic_clip.best_clip(steps, "laplace")
        assert float(span(values, 4, symmetric, "aciq")[1]) == pytest.approx(expected)
    above = values.abs()
    expected = float(spread) * analytic_clip.best_clip(30, "laplace")
    assert float(span(above, 4, False, "aciq")[1]) == pytest.approx(min(expected, float(above.max())))


def test_methods_that_clip_lose_less_than_the_extremes_where_there_are_outliers() -> None:
    values = torch.from_numpy(laplace(20_000))
    values[:3] = 60.0
    lost = {
        method: grids.error(values, grids.quantize(values, 4, range=method), True).mse
        for method in calibrate.METHODS
    }
    assert max(lost, key=lambda method: lost[method]) == "minmax"
    assert lost["mse"] < 0.4 * lost["minmax"]


# ---------------------------------------------------------------- rounding by chance


def test_rounding_by_chance_is_unbiased_and_as_wide_as_it_should_be() -> None:
    count, step = 1_000_000, 2.0 / 7
    for value in (0.1, 0.25, -0.4, 1.3):
        values = torch.full((1, count), value)
        values[0, 0] = 2.0  # the scale: 7 steps
        codes = grids.quantize(values, 4, seed=5).codes[0, 1:].double()
        share = value / step - math.floor(value / step)
        sigma = math.sqrt(share * (1 - share))
        assert abs(float(codes.mean()) - value / step) <= 4 * sigma / math.sqrt(count)
        assert float(codes.var()) == pytest.approx(sigma**2, rel=0.02)


def test_chance_hangs_on_the_seed_and_leaves_levels_and_zeros_alone() -> None:
    values = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    values[values.abs() < 0.3] = 0.0
    rounded = [grids.quantize(values, 4, granularity=per_axis(0), seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(rounded[0].codes, rounded[1].codes)
    assert not torch.equal(rounded[0].codes, rounded[2].codes)
    assert bool((rounded[0].decode()[values == 0] == 0).all())
    some = grids.quantize(values[10:20], 4, granularity=per_axis(0), seed=0)
    assert torch.equal(some.codes, rounded[0].codes[10:20]), "rows get what they get among all"
    scale, _ = stored_affine(torch.tensor([-7.0]), torch.tensor([7.0]), 4, True)
    whole = torch.arange(-7.0, 8.0) * scale
    assert grids.quantize(whole, 4, seed=3).codes.tolist() == list(range(-7, 8))


def test_numbers_of_chance_are_even_over_rows_and_columns() -> None:
    drawn = uniform(torch.randn(200, 500, generator=torch.Generator().manual_seed(1)), 9).double()
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 1
    for means, count in ((drawn.mean(1), 500), (drawn.mean(0), 200)):
        # Each mean is 1/2 within sqrt(1/12 n): 5 sigma for hundreds of them.
        assert float((means - 0.5).abs().max()) < 5 * math.sqrt(1 / 12 / count)
    counts = torch.histc(drawn, 20, 0, 1)
    chi2 = float(((counts - drawn.numel() / 20) ** 2 / (drawn.numel() / 20)).sum())
    assert chi2 < 60, "19 degrees of freedom"
