"""The sorted index answers exactly what touching every weight would."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import grids, masks
from engine.index import TensorIndex
from engine.surgery import code_range

values = st.lists(
    st.floats(-2, 2, width=32, allow_subnormal=False) | st.sampled_from([0.0, 0.5, -0.5, 1.5]),
    min_size=1,
    max_size=60,
).map(lambda v: torch.tensor(v, dtype=torch.float32))


@given(values, st.floats(0, 2.5))
def test_counts_and_energy_are_those_of_the_mask(w: torch.Tensor, threshold: float) -> None:
    index, kept = TensorIndex(w), masks.by_threshold(w, threshold)
    assert index.count_removed(threshold) == int((~kept).sum())
    assert index.energy_removed(threshold) == pytest.approx(
        float(w.double()[~kept].square().sum()), abs=1e-12
    )


@given(values, st.floats(0, 1))
def test_the_threshold_of_a_sparsity_is_the_largest_that_goes(w: torch.Tensor, share: float) -> None:
    index, kept = TensorIndex(w), masks.by_sparsity(w, share)
    if round(share * len(w)) > 0:
        assert index.threshold_for(share) == float(w[~kept].abs().max()) or bool((w[~kept] == 0).all())
        assert index.count_removed(index.threshold_for(share)) >= round(share * len(w))
    else:
        assert index.threshold_for(share) == 0.0


def test_a_threshold_is_compared_as_a_float32() -> None:
    w = torch.tensor([0.1, 0.2])
    assert TensorIndex(w).count_removed(0.1) == int((~masks.by_threshold(w, 0.1)).sum()) == 1


@given(values, st.integers(1, 12), st.floats(0, 2.5))
def test_the_histogram_counts_every_weight_once(w: torch.Tensor, bins: int, threshold: float) -> None:
    index = TensorIndex(w)
    table = index.histogram(bins, threshold)
    assert len(table) == bins
    assert int(table["weights"].sum()) == len(w)
    assert int(table["removed"].sum()) == index.count_removed(threshold)
    assert (table["removed"] <= table["weights"]).all()
    assert table["low"].equals(index.histogram(bins)["low"])


def test_the_histogram_agrees_with_numpy() -> None:
    w = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    table = TensorIndex(w).histogram(40)
    edges = np.append(table["low"].to_numpy(), table["high"].to_numpy()[-1])
    assert table["weights"].tolist() == np.histogram(w.numpy(), edges)[0].tolist()
    assert int(table["removed"].sum()) == 0


@given(values, st.floats(0.01, 1.0), st.integers(1, 7), st.booleans(), st.integers(0, 100))
def test_a_grid_costs_what_rounding_every_weight_costs(
    w: torch.Tensor, scale: float, bits: int, symmetric: bool, place: int
) -> None:
    low, high = code_range(bits, symmetric)
    zero = 0 if symmetric else low + place % (high - low + 1)
    step = torch.tensor([scale])
    codes = grids._codes(w.view(1, -1), step, torch.tensor([zero]), None, bits, symmetric)
    back = (codes - zero).float() * step
    answer = TensorIndex(w).on_grid(scale, zero, bits, symmetric)
    assert answer.counts.tolist() == torch.bincount(codes.flatten() - low, minlength=high - low + 1).tolist()
    assert answer.sse == pytest.approx(float((back - w).double().square().sum()), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 14])
def test_a_large_tensor_on_its_own_grid(bits: int) -> None:
    w = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    grid = grids.quantize(w, bits)
    answer = TensorIndex(w).on_grid(float(grid.scale), 0, bits, True)
    low, _ = code_range(bits, True)
    counted = torch.bincount(grid.codes - low, minlength=len(answer.counts))
    assert answer.counts.tolist() == counted.tolist()
    assert answer.sse / len(w) == pytest.approx(grids.error(w, grid, True).mse, rel=1e-6)


def test_ties_go_to_even_in_the_index_too() -> None:
    answer = TensorIndex(torch.tensor([0.5, 1.5, 2.5, -0.5])).on_grid(1.0, 0, 3, True)
    assert dict(zip(answer.codes.tolist(), answer.counts.tolist(), strict=True))[0] == 2
    assert dict(zip(answer.codes.tolist(), answer.counts.tolist(), strict=True))[2] == 2


def test_entropy_by_hand() -> None:
    answer = TensorIndex(torch.tensor([1.0, 1.0, -1.0, 0.0])).on_grid(1.0, 0, 2, True)
    assert answer.entropy == pytest.approx(1.5)
    assert TensorIndex(torch.zeros(3)).on_grid(1.0, 0, 2, True).entropy == 0.0
    assert not math.copysign(1, TensorIndex(torch.zeros(3)).on_grid(1.0, 0, 2, True).entropy) < 0


def test_an_index_over_several_layers_is_one_ranking() -> None:
    one, other = torch.tensor([[3.0, 1.0]]), torch.tensor([2.0, 0.5, 4.0])
    assert TensorIndex.over([one, other]).threshold_for(0.6) == 2.0


def test_the_input_is_not_touched_and_the_index_cannot_be() -> None:
    w = torch.tensor([3.0, 1.0])
    index = TensorIndex(w)
    assert w.tolist() == [3.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        index.values[0] = 0
