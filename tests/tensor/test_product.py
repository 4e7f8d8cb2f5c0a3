"""Product codebooks of a tensor: by hand, zeros, odd rows, and what a cut leaves of the sub-vectors."""

from __future__ import annotations

import pytest
import torch

from engine.tensor.formats import Dense, Product
from engine.tensor.formats.product import sub_vectors
from engine.tensor.kmeans import kmeans
from engine.tensor.product import input_moments, product_quantize

WEIGHT = torch.tensor([[1.0, 1.0, 5.0, 5.0], [1.0, 3.0, 5.0, 7.0], [1.0, 2.0, 5.0, 6.0]])


def test_six_sub_vectors_share_two_entries_by_hand() -> None:
    """(1,1), (1,3), (1,2) -> (1,2) and (5,5), (5,7), (5,6) -> (5,6): one bit each, and 4 floats."""
    book = product_quantize(WEIGHT, 2, 2)
    assert book.decode().tolist() == [[1.0, 2.0, 5.0, 6.0]] * 3
    assert sorted(book.table.tolist()) == [[1.0, 2.0], [5.0, 6.0]]
    assert book.fixed_bits() == 8 + 4 * 32  # 6 codes of a bit in a byte


def test_inputs_say_which_error_counts() -> None:
    """With inputs (1, 0) only the first number of a sub-vector does."""
    weight = torch.tensor([[1.0, 0.1, 1.1, 9.0], [2.0, 0.3, 2.1, 8.0]])
    rows = torch.tensor([[1.0, 0.0, 1.0, 0.0], [3.0, 0.0, 3.0, 0.0]])
    moments = input_moments(rows, 2)
    assert moments.tolist() == [[5.0, 0.0, 0.0]] * 2
    aware, plain = product_quantize(weight, 2, 2, moments), product_quantize(weight, 2, 2)
    first, second = aware.decode()[:, 0].tolist()
    assert (first, second) == pytest.approx((1.05, 2.05))
    assert plain.codes.tolist() in ([0, 1, 0, 1], [1, 0, 1, 0])
    assert aware.codes.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_inputs_that_vary_together_let_errors_cancel() -> None:
    """With equal inputs a sub-vector counts by its sum: (0, 2) and (2, 0) are one entry."""
    weight = torch.tensor([[0.5, 1.5], [1.5, 0.5], [4.0, 6.0], [6.0, 4.0]])
    moments = input_moments(torch.ones(10, 2), 2)
    off = (product_quantize(weight, 2, 2, moments).decode() - weight).sum(1)
    assert off.abs().max() < 1e-5


def test_silent_inputs_count_alike() -> None:
    assert torch.equal(
        product_quantize(WEIGHT, 2, 2, torch.zeros(2, 3)).decode(), product_quantize(WEIGHT, 2, 2).decode()
    )


def test_zeros_stay_and_do_not_move_the_table() -> None:
    weight = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 3.0, 0.0, 5.0]])
    book = product_quantize(weight, 2, 2)
    assert torch.equal(book.decode(), weight)
    assert book.coded.tolist() == [True, False, True, True]
    assert book.fixed_bits() == 8 + 4 * 32 + 8  # 3 codes, 4 floats, 8 marks
    assert not product_quantize(torch.zeros(3, 4), 2, 2).decode().any()


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 7), (3, 1), (2, 5, 3)])
def test_rows_of_any_length_are_cut_and_put_together(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    whole = product_quantize(weight, 4, 1000)
    assert torch.allclose(whole.decode(), weight)
    assert len(whole.codes) == len(sub_vectors(weight, 4)) == shape[0] * -(-weight[0].numel() // 4)


def test_whole_sub_vectors_are_taken_in_their_format_and_others_as_floats() -> None:
    weight = torch.randn(4, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    book = product_quantize(weight, 4, 6)
    kept = book.take(1, torch.tensor([0, 3]))
    assert isinstance(kept, Product)
    assert torch.equal(kept.decode(), book.decode()[:, [0, 3]])
    broken = product_quantize(weight, 8, 6).take(1, torch.tensor([0, 3]))
    assert isinstance(broken, Dense)
    short = product_quantize(torch.randn(3, 6), 4, 5)
    assert isinstance(short.take(1, torch.arange(5)), Product), "the last one may be cut short"


def test_weights_that_vary_together_need_fewer_bits_than_single_ones() -> None:
    """Neighbours that are nearly equal: at one and a half bits, a tenth of the error of three values."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(200, 100, 1, generator=random) + 0.1 * torch.randn(200, 100, 4, generator=random)
    weight = weight.flatten(1)
    book = product_quantize(weight, 4, 64)
    assert book.fixed_bits() / weight.numel() < 1.61
    error = float((book.decode() - weight).square().mean())
    assert error < 0.1 * kmeans(weight, 3).sse / weight.numel()
