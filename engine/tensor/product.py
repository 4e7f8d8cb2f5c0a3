"""A layer's weights as a product codebook: sub-vectors cut along the inputs, one table for all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.tensor.formats.product import Product, sub_vectors
from engine.tensor.vector_kmeans import nearest, places, vector_kmeans

DAMPING = 0.01  # of the mean square of the inputs, for those that the samples say nothing of


def input_moments(rows: Tensor, length: int) -> Tensor:
    """Means of the products of inputs that meet the same sub-vector: (sub-vectors of a row, upper triangle).

    `rows` (points, inputs * kernel) are what a layer's weights are multiplied with.

    >>> input_moments(torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 1.0]]), 2).tolist()
    [[1.0, 1.0, 2.0], [5.0, 0.0, 0.0]]
    """
    pieces = sub_vectors(rows, length).reshape(len(rows), -1, length)
    one, other = places(length * (length + 1) // 2, length)
    each = [(pieces[..., i] * pieces[..., j]).mean(0) for i, j in zip(one, other, strict=True)]
    return torch.stack(each, 1)


def product_quantize(
    values: Tensor, length: int, entries: int, moments: Tensor | None = None, seed: int = 0
) -> Product:
    """Weights (outputs, ...) with at most `entries` shared sub-vectors of `length` numbers each.

    With `moments`, those of `input_moments`, an error counts as the mean square of what it does to an
    output, each sub-vector by itself; without, all weights count alike. Exact zeros stay exact zeros,
    whatever their sub-vector's entry, and count nothing.
    (Gong 2014, arXiv 1412.6115; Stock 2020, And the bit goes down, arXiv 1907.05686)

    >>> weight = torch.tensor([[1.0, 2.0, 1.0, 4.0], [7.0, 0.0, 1.0, 3.0]])
    >>> book = product_quantize(weight, 2, 2)
    >>> book.decode().tolist()
    [[1.0, 3.0, 1.0, 3.0], [7.0, 0.0, 1.0, 3.0]]
    >>> book.zero.tolist()
    [[0, 0, 0, 0], [0, 1, 0, 0]]
    """
    values, kept = values.detach(), values.detach() != 0
    vectors = sub_vectors(values, length)
    metric = sub_vectors(kept.float(), length)
    if moments is not None:
        one, other = places(moments.shape[1], length)
        squares = moments[:, one == other]
        damped = moments + DAMPING * squares.mean() * (one == other)
        damped = damped if bool(squares.any()) else (one == other).float().expand(moments.shape)
        metric = damped.repeat(len(values), 1) * metric[:, one] * metric[:, other]
    table = vector_kmeans(vectors, entries, metric, seed)
    codes = nearest(vectors, table, metric).to(torch.int32)
    book = Product(codes, table, tuple(values.shape))
    return book if bool(kept.all()) else book.with_zeros(kept)
