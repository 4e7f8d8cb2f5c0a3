"""Low rank for the outputs: Eckart and Young in the metric of the inputs, also where that is singular."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.tensor import factors, whitened
from engine.tensor.factors import Decomposition


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(points: int, columns: int) -> Tensor:
    """Inputs that are far from white, and whose mean is not zero."""
    return drawn(points, columns, seed=1) @ drawn(columns, columns, seed=2) + drawn(columns, seed=3)


def product(parts: Decomposition, rank: int) -> Tensor:
    return (parts.left[:, :rank] * parts.scales[:rank]) @ parts.right[:rank]


def error(weight: Tensor, near: Tensor, x: Tensor) -> float:
    """Root of the mean squared change of the outputs."""
    return float((x @ (weight - near).T).norm()) / len(x) ** 0.5


def root(x: Tensor) -> np.ndarray:
    """The symmetric square root of E[x x^T], by numpy."""
    values, vectors = np.linalg.eigh((x.T @ x / len(x)).numpy())
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def test_by_hand_the_large_weight_goes_where_its_input_is_small() -> None:
    """M = diag(3, 1), inputs of mean squares 0.01 and 100: M C^1/2 = diag(0.3, 10), rank 1 keeps the 1."""
    weight = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    x = torch.tensor([[0.1, 0.0], [0.0, 10.0]], dtype=torch.float64) * 2**0.5
    parts = whitened.decompose(weight, "linear", x @ weight.T)
    assert parts.values.tolist() == pytest.approx([10.0, 0.3])
    assert product(parts, 1).flatten().tolist() == pytest.approx([0, 0, 0, 1])
    assert error(weight, product(parts, 1), x) == pytest.approx(0.3)
    plain = factors.decompose(weight, "linear")
    assert error(weight, product(plain, 1), x) == pytest.approx(10.0)


@pytest.mark.parametrize(("rows", "columns"), [(12, 7), (6, 20), (9, 9)])
def test_it_is_the_closed_form_and_its_error_the_tail_of_the_whitened_matrix(rows: int, columns: int) -> None:
    weight, x = drawn(rows, columns, seed=4), inputs(200, columns)
    half = root(x)
    u, s, v = np.linalg.svd(weight.numpy() @ half, full_matrices=False)
    parts = whitened.decompose(weight, "linear", x @ weight.T)
    assert parts.values.numpy() == pytest.approx(s, rel=1e-8)
    for rank in (1, 3, 6):
        closed = (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.inv(half)
        assert product(parts, rank).numpy() == pytest.approx(closed, abs=1e-8)
        tail = float(np.sqrt((s[rank:] ** 2).sum()))
        assert error(weight, product(parts, rank), x) == pytest.approx(tail, rel=1e-8, abs=1e-9)
        assert whitened.output_error(parts, rank, x @ weight.T) == pytest.approx(tail / np.linalg.norm(s))


def test_no_other_matrix_of_that_rank_changes_the_outputs_less() -> None:
    """For any left factor the best right one is known, so that only left factors need be tried."""
    weight, x = drawn(8, 6, seed=4), inputs(100, 6)
    near = product(whitened.decompose(weight, "linear", x @ weight.T), 2)
    least = error(weight, near, x)
    for seed in range(200):
        # from far away to beside the best
        left = drawn(8, 2, seed=seed) * 10.0 ** -(seed % 6) + torch.linalg.svd(near).U[:, :2]
        other = left @ torch.linalg.lstsq(left, weight).solution
        assert error(weight, other, x) >= least * (1 - 1e-12)
        basis = torch.linalg.qr(left).Q
        assert error(weight, basis @ basis.T @ weight, x) >= least * (1 - 1e-12)
    assert error(weight, product(factors.decompose(weight, "linear"), 2), x) > 1.05 * least


def test_where_the_covariance_is_singular_the_least_is_reached_and_nothing_else_is_spoilt() -> None:
    """Four points see four of ten directions; what they do not see stays as near to the weights as can be."""
    weight, x = drawn(8, 10, seed=4), drawn(4, 10, seed=5)
    half = root(x)
    u, s, v = np.linalg.svd(weight.numpy() @ half, full_matrices=False)
    parts = whitened.decompose(weight, "linear", x @ weight.T)
    assert parts.values[4:].tolist() == [0.0] * 4
    for rank in (1, 2, 3, 4, 6):
        near = product(parts, rank)
        tail = float(np.sqrt((s[rank:4] ** 2).sum()))
        assert error(weight, near, x) == pytest.approx(tail, abs=1e-9)
        by_inverse = (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.pinv(half, rcond=1e-6)
        assert float((weight - near).norm()) < float((weight - torch.from_numpy(by_inverse)).norm())
    assert torch.allclose(product(parts, 8), weight)


def test_tall_matrices_and_dead_layers_end_in_the_weights_too() -> None:
    tall, x = drawn(9, 4, seed=6), inputs(50, 4)
    assert torch.allclose(product(whitened.decompose(tall, "linear", x @ tall.T), 4), tall)
    parts, plain = (
        whitened.decompose(tall, "linear", torch.zeros(5, 9)),
        factors.decompose(tall, "linear"),
    )
    assert torch.allclose(product(parts, 2), product(plain, 2))
    assert whitened.output_error(parts, 2, torch.zeros(5, 9)) == 0.0
    assert math.isnan(whitened.output_error(parts, 2, torch.zeros(0, 9)))


def test_two_convolutions_are_off_by_the_tail_at_all_places_of_the_images() -> None:
    layer = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False).double()
    weight, images = layer.weight.detach(), inputs(40, 75).reshape(40, 3, 5, 5)
    layer.weight.data = weight.float().double()
    outputs = layer(images).detach()
    parts = whitened.decompose(layer.weight.detach(), "channel", outputs.movedim(1, -1).flatten(0, -2))
    first, second = (each.double() for each in factors.halves(parts, 2))
    near = F.conv2d(F.conv2d(images, first, stride=2, padding=1), second)
    tail = float(parts.values[2:].square().sum().sqrt())
    assert float((near - outputs).norm()) / (40 * 9) ** 0.5 == pytest.approx(tail, rel=1e-5)
