"""Tucker-2: its error at all ranks, against numpy, and three layers that do what one did."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensorly.decomposition import partial_tucker
from torch import Tensor, nn

from engine.net import surgery
from engine.tensor import tucker
from engine.types import SlimscopeError


def kernel(outputs: int, inputs: int, seed: int = 0) -> Tensor:
    """A kernel whose channels are alike to some degree."""
    rng = torch.Generator().manual_seed(seed)
    core = torch.randn(outputs, inputs, 3, 2, generator=rng)
    fall = torch.arange(1.0, outputs + 1).pow(-0.7).reshape(-1, 1, 1, 1)
    mixed = torch.einsum("ab,bihw->aihw", torch.randn(outputs, outputs, generator=rng), core * fall)
    return torch.einsum("ij,ojhw->oihw", torch.randn(inputs, inputs, generator=rng), mixed)


def test_by_hand_two_pairs_of_channels() -> None:
    """Weight 3 leads from input 1 to output 1, and 4 from input 2 to output 2: squares of 9 and 16."""
    weight = torch.zeros(2, 2, 1, 2)
    weight[0, 0, 0, 0], weight[1, 1, 0, 1] = 3.0, 4.0
    parts = tucker.decompose(weight)
    assert parts.kept.flatten().tolist() == pytest.approx([16 / 25, 16 / 25, 16 / 25, 1.0])
    assert tucker.weights_at((2, 2, 1, 2), 1, 1) == 2 + 2 + 2
    assert tucker.join(*tucker.layers(parts, 1, 1)).flatten().tolist() == pytest.approx([0] * 7 + [4])


def test_the_surface_is_the_error_at_every_pair_of_ranks() -> None:
    weight = kernel(5, 4)
    parts = tucker.decompose(weight)
    total = float(weight.double().square().sum())
    for outputs in range(1, 6):
        for inputs in range(1, 5):
            near = tucker.join(*tucker.layers(parts, outputs, inputs))
            lost = float((near - weight).double().square().sum()) / total
            assert 1 - float(parts.kept[outputs - 1, inputs - 1]) == pytest.approx(lost, abs=1e-6)
    assert (parts.kept.diff(dim=0) >= -1e-12).all()
    assert (parts.kept.diff(dim=1) >= -1e-12).all()


def leading(matrix: np.ndarray, rank: int) -> np.ndarray:
    return np.asarray(np.linalg.svd(matrix, full_matrices=False)[0][:, :rank])


@pytest.mark.parametrize("ranks", [(2, 2), (3, 5), (6, 1)])
def test_it_is_numpy_s_and_as_near_to_the_best_as_theory_says(ranks: tuple[int, int]) -> None:
    """Truncation loses at most sqrt(2) times what the best kernel does, and that is no better than HOOI's."""
    weight = kernel(8, 6, seed=1)
    w = weight.double().numpy()
    a, b = leading(w.reshape(8, -1), ranks[0]), leading(w.swapaxes(0, 1).reshape(6, -1), ranks[1])

    def lost(a: np.ndarray, b: np.ndarray) -> float:
        core = np.einsum("oihw,oa,ib->abhw", w, a, b)
        return float(np.linalg.norm(np.einsum("abhw,oa,ib->oihw", core, a, b) - w))

    parts = tucker.decompose(weight)
    ours = float((1 - parts.kept[ranks[0] - 1, ranks[1] - 1]).sqrt()) * np.linalg.norm(w)
    assert ours == pytest.approx(lost(a, b), rel=1e-6)
    for _ in range(20):  # higher-order orthogonal iteration, from there
        a = leading(np.einsum("oihw,ib->obhw", w, b).reshape(8, -1), ranks[0])
        b = leading(np.einsum("oihw,oa->iahw", w, a).reshape(6, -1), ranks[1])
    assert lost(a, b) <= ours * (1 + 1e-9)
    assert ours <= 2**0.5 * lost(a, b)


@pytest.mark.parametrize("ranks", [(2, 2), (3, 5)])
def test_it_is_as_near_as_theory_says_to_tensorly_s(ranks: tuple[int, int]) -> None:
    """Tensorly iterates for the one pair of ranks: it loses no more, and we at most sqrt(2) times as much."""
    weight = kernel(8, 6, seed=1)
    w = weight.double().numpy()
    (core, sides), _ = partial_tucker(w, list(ranks), modes=[0, 1], init="svd")
    theirs = float(np.linalg.norm(np.einsum("abhw,oa,ib->oihw", core, *sides) - w))
    near = tucker.join(*tucker.layers(tucker.decompose(weight), *ranks))
    ours = float((near.double() - weight.double()).norm())
    assert theirs <= ours * (1 + 1e-6)
    assert ours <= 2**0.5 * theirs


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_three_convolutions_are_the_convolution_of_their_product(mode: str) -> None:
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "padding_mode": mode}
    net = nn.Sequential(nn.Conv2d(4, 6, (3, 2), **options))
    dense = net[0]
    three = tucker.layers(tucker.decompose(dense.weight.detach()), 3, 2)
    surgery.tucker(net, layer="0", outputs=3, inputs=2)
    for layer, weight in zip(net[0], three, strict=True):
        assert layer.weight.shape == weight.shape
        layer.weight.data = weight
    net[0][2].bias.data = dense.bias.data
    dense.weight.data = tucker.join(*three)
    images = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net(images), dense(images), atol=1e-5)


@pytest.mark.parametrize("form", ["channel", "spatial"])
def test_two_convolutions_pad_as_the_one_did(form: str) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"))
    surgery.split(net, layer="0", rank=1, form=form)
    assert {layer.padding_mode for layer in net[0] if max(layer.kernel_size) > 1} == {"circular"}


def test_break_even_is_where_the_counts_meet() -> None:
    shape = (64, 32, 3, 3)
    even = tucker.break_even(shape, 20)
    assert tucker.weights_at(shape, int(even), 20) < 64 * 32 * 9 < tucker.weights_at(shape, int(even) + 1, 20)


def test_what_cannot_be_is_refused_with_what_can() -> None:
    with pytest.raises(SlimscopeError, match="4 dimensions"):
        tucker.decompose(torch.zeros(3, 4))
    with pytest.raises(SlimscopeError, match="ranks are 9 and 1: allowed are 1 to 4 and 1 to 3"):
        tucker.layers(tucker.decompose(kernel(4, 3)), 9, 1)
    assert tucker.decompose(torch.zeros(2, 2, 1, 2)).kept.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3))
    with pytest.raises(SlimscopeError, match=r"'0' \(Conv2d\) has no 'tucker' split"):
        surgery.tucker(net, layer="0", outputs=1, inputs=1)
    with pytest.raises(SlimscopeError, match="ranks of layer '1' are 0 and 1"):
        surgery.tucker(net, layer="1", outputs=0, inputs=1)
