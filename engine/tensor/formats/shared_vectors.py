"""Training the table of a product codebook: its sub-vectors move, and every code stays."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from engine.tensor.formats.product import Product
from engine.tensor.formats.through import StraightThrough


class SharedVectors(StraightThrough):
    """Each sub-vector keeps its entry, whose gradient is the sum of its sub-vectors'.

    The floats behind the codes neither count nor move. Exact zeros stay zero, and give no gradient.
    (Stock 2020, And the bit goes down, arXiv 1907.05686)

    >>> import torch
    >>> table = torch.tensor([[0.5, 2.0], [1.0, -1.0]])
    >>> learned = SharedVectors(Product(torch.tensor([1, 1], dtype=torch.int32), table, (1, 4)))
    >>> (learned(torch.zeros(1, 4)) * torch.tensor([[1.0, 2.0, 10.0, 20.0]])).sum().backward()
    >>> learned.table.grad.tolist()
    [[0.0, 0.0], [11.0, 22.0]]
    """

    def __init__(self, book: Product) -> None:
        super().__init__()
        self.table = nn.Parameter(book.table.clone())
        self._book = book

    def forward(self, latent: Tensor) -> Tensor:
        return replace(self._book, table=self.table).decode()

    def encode(self, latent: Tensor) -> Product:
        return replace(self._book, table=self.table.detach().clone())
