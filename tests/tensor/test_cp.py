"""CP of kernels: least squares that never get worse, and pieces that grow where no nearest sum exists."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tensorly.cp_tensor import CPTensor, cp_to_tensor
from tensorly.decomposition import parafac
from torch import Tensor

from engine.net import zoo
from engine.tensor import cp, splits
from engine.types import SlimscopeError


def outer(*vectors: list[float]) -> Tensor:
    return torch.einsum("o,i,h,w->oihw", *(torch.tensor(each, dtype=torch.float64) for each in vectors))


@pytest.fixture(scope="module")
def kernel() -> Tensor:
    return zoo.load("resnet-8").params["layer1.0.conv1.weight"].decode()


def test_by_hand_two_orthogonal_pieces() -> None:
    """Pieces of norms 4 and 3: one piece can keep 16 of 25, two keep all, and none of them cancel."""
    four, three = ([4.0, 0.0], [1.0, 0.0], [1.0, 0.0]), ([0.0, 3.0], [0.0, 1.0], [0.0, 1.0])
    weight = outer(*four, [1.0]) + outer(*three, [1.0])
    one, two = (cp.decompose(weight, rank) for rank in (1, 2))
    assert (one.error, one.size) == (pytest.approx(3 / 5), pytest.approx(4 / 5))
    assert (two.error, two.size) == (pytest.approx(0.0, abs=1e-6), pytest.approx(1.0))
    assert two.weights == cp.weights_at((2, 2, 2, 1), 2) == 2 * 7
    assert torch.allclose(cp.join(two.factors), weight, atol=1e-6)


def test_where_no_nearest_sum_exists_two_pieces_grow_and_cancel() -> None:
    """a a b + a b a + b a a is the limit of sums of two pieces, and no such sum (de Silva, Lim 2008)."""
    a, b, one = [1.0, 0.0], [0.0, 1.0], [1.0]
    weight = outer(a, a, b, one) + outer(a, b, a, one) + outer(b, a, a, one)
    found = cp.decompose(weight, 2)
    assert found.error < 0.05
    assert found.size > 2
    assert found.most_opposite < -0.8
    sizes = [size for _, _, size in found.course]
    assert sizes[-1] > sizes[-2] > sizes[-4], "and they would go on"


def test_the_error_never_grows_and_is_that_of_the_product(kernel: Tensor) -> None:
    found = cp.decompose(kernel, 12)
    errors = [error for _, error, _ in found.course]
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(errors))
    factors = [factor.numpy() for factor in found.factors]
    near, w = np.einsum("or,ir,hr,wr->oihw", *factors), kernel.double().numpy()
    assert found.error == pytest.approx(np.linalg.norm(near - w) / np.linalg.norm(w))
    norms = np.prod([np.linalg.norm(factor, axis=0) for factor in factors], 0)
    assert found.size == pytest.approx(np.linalg.norm(norms) / np.linalg.norm(w))


def test_one_sweep_is_that_of_tensorly(kernel: Tensor) -> None:
    rng = torch.Generator().manual_seed(0)
    start = [torch.randn(side, 5, generator=rng, dtype=torch.float64).numpy() for side in kernel.shape]
    init = CPTensor((np.ones(5), start))
    theirs = parafac(kernel.double().numpy(), 5, n_iter_max=1, init=init, tol=0)
    ours = cp.decompose(kernel, 5, sweeps=1)
    assert cp.join(ours.factors).numpy() == pytest.approx(cp_to_tensor(theirs), abs=1e-8)


def test_it_fits_best_and_bears_rounding_worst(kernel: Tensor) -> None:
    """The warning: at no more weights CP leaves out less than Tucker, until its factors are rounded."""
    table = cp.beside(kernel, cp.at_shares(kernel))
    assert table["rank"].tolist() == [6, 12, 24]
    for row in table.itertuples():
        assert row.weights == row.rank * (16 + 16 + 3 + 3)
        for form in cp.FORMS:
            split = splits.of(kernel, form)
            ranks = split.for_share(row.weights / kernel.numel())
            assert getattr(row, form) == pytest.approx(split.error(ranks))
            assert split.weights(ranks) <= row.weights
            assert row.cp < getattr(row, form)
    grown = table[table["size"] > 2]
    assert len(grown)
    assert (grown["cp_rounded"] - grown["cp"] > 3 * (grown["tucker_rounded"] - grown["tucker"])).all()


def test_forms_that_cannot_have_so_few_weights_have_no_error() -> None:
    small = zoo.load("lenet-5-small").params["conv1.weight"].decode()
    table = cp.beside(small, cp.at_shares(small))
    assert table.loc[0, "weights"] == 15
    assert table.loc[0, list(cp.FORMS)].isna().all()


def test_what_has_no_four_sides_or_no_rank_is_refused() -> None:
    with pytest.raises(SlimscopeError, match=r"CP of rank 2 of shape \(3, 4\)"):
        cp.decompose(torch.zeros(3, 4), 2)
    with pytest.raises(SlimscopeError, match="CP of rank 0"):
        cp.decompose(torch.zeros(2, 2, 1, 1), 0)
    assert cp.decompose(torch.zeros(2, 2, 1, 1), 1).error == 0.0
