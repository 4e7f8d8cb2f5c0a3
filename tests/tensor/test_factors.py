"""Low rank: Eckart and Young by numpy, and two layers in a row that do what one did."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine.net import surgery
from engine.tensor import factors
from engine.types import SlimscopeError

SHAPES = [((12, 7), "linear"), ((6, 4, 3, 5), "channel"), ((6, 4, 3, 5), "spatial")]


def weight(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("shape", "form"), SHAPES)
def test_the_matrix_has_its_shape_and_every_weight_once(shape: tuple[int, ...], form: str) -> None:
    laid = factors.matrix(weight(shape), form)
    assert tuple(laid.shape) == factors.matrix_shape(shape, form)
    assert torch.equal(laid.flatten().sort().values, weight(shape).flatten().sort().values)


def test_spatial_puts_rows_of_the_kernel_with_the_inputs() -> None:
    w = weight((6, 4, 3, 5))
    assert factors.matrix(w, "spatial")[2 * 3 + 1, 5 * 5 + 4] == w[5, 2, 1, 4]


@pytest.mark.parametrize(("shape", "form"), SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_error_is_the_tail_of_the_singular_values(shape: tuple[int, ...], form: str, rank: int) -> None:
    w = weight(shape)
    rank = min(rank, *factors.matrix_shape(shape, form))
    values = np.linalg.svd(factors.matrix(w.double(), form).numpy(), compute_uv=False)
    assert factors.spectrum(w, form).numpy() == pytest.approx(values)
    back = factors.join(*factors.split(w, form, rank), form)
    assert back.shape == w.shape
    tail = float(np.sqrt((values[rank:] ** 2).sum()))
    assert float((back - w).norm()) == pytest.approx(tail, abs=1e-5)
    expected = tail / float(w.norm())
    assert factors.relative_error(torch.from_numpy(values), rank) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", ["channel", "spatial"])
@pytest.mark.parametrize("rank", [2, 5])
def test_two_convolutions_are_the_convolution_of_their_product(form: str, rank: int) -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)))
    dense = net[0]
    first, second = factors.split(dense.weight.data, form, rank)
    surgery.split(net, layer="0", rank=rank, form=form)
    net[0][0].weight.data, net[0][1].weight.data = first, second
    net[0][1].bias.data = dense.bias.data
    dense.weight.data = factors.join(first, second, form)
    images = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net(images), dense(images), atol=1e-5)


def test_two_linear_layers_are_the_layer_of_their_product() -> None:
    net = nn.Sequential(nn.Linear(7, 12))
    dense = net[0]
    first, second = factors.split(dense.weight.data, "linear", 3)
    surgery.split(net, layer="0", rank=3, form="linear")
    net[0][0].weight.data, net[0][1].weight.data = first, second
    net[0][1].bias.data = dense.bias.data
    dense.weight.data = factors.join(first, second, "linear")
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net(x), dense(x), atol=1e-5)


def test_an_exact_rank_is_recovered() -> None:
    w = weight((20, 3)) @ weight((3, 15))
    assert torch.allclose(factors.join(*factors.split(w, "linear", 3), "linear"), w, atol=1e-5)
    assert factors.rank_for_energy(factors.spectrum(w, "linear"), 1 - 1e-9) == 3


def test_break_even_is_where_the_counts_meet() -> None:
    assert factors.break_even((300, 784), "linear") == pytest.approx(300 * 784 / 1084)
    assert (
        factors.weights_at((300, 784), "linear", 216)
        < 300 * 784
        < factors.weights_at((300, 784), "linear", 217)
    )


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_the_rank_for_an_energy_is_the_smallest_that_keeps_it(values: list[float], share: float) -> None:
    spectrum = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    rank = factors.rank_for_energy(spectrum, share)
    assert factors.energy(spectrum, rank) >= share - 1e-12
    assert rank == 1 or factors.energy(spectrum, rank - 1) < share + 1e-12


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 1.0))
def test_the_rank_for_a_share_is_the_largest_that_fits(rows: int, columns: int, share: float) -> None:
    rank = factors.rank_for_share((rows, columns), "linear", share)
    budget = share * rows * columns + 1e-6 * (rows + columns)
    assert rank == 1 or factors.weights_at((rows, columns), "linear", rank) <= budget
    assert (
        rank == min(rows, columns) or factors.weights_at((rows, columns), "linear", rank + 1) > budget - 1e-3
    )


def test_a_weight_of_zeros_loses_nothing() -> None:
    values = factors.spectrum(torch.zeros(3, 4), "linear")
    assert (factors.energy(values, 1), factors.relative_error(values, 1)) == (1.0, 0.0)
    assert factors.rank_for_energy(values, 0.9) == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SlimscopeError, match="needs a weight of 4 dimensions"):
        factors.matrix(weight((3, 4)), "channel")
    with pytest.raises(SlimscopeError, match=r"form is 'tucker'.*linear, channel, spatial"):
        factors.break_even((3, 4), "tucker")
    with pytest.raises(SlimscopeError, match="rank is 4: allowed is 1 to 3"):
        factors.split(weight((3, 4)), "linear", 4)
