"""Relative indices of a sparse tensor, as Deep Compression stores them (Han 2016, figure 2 and section 4).

Each entry is the distance from the last one and the number of a shared value. A distance that its bits
cannot say is bridged by fillers: entries of value zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.tensor.codes import Ints, counted, huffman_lengths
from engine.tensor.formats import Book

FILLER = -1  # the symbol of a filler's value


@dataclass(frozen=True, eq=False)
class Relative:
    """Distances (n,) from 1 to 2^bits, and the numbers of shared values (n,), FILLER for a filler."""

    distances: Ints
    numbers: Ints

    @property
    def fillers(self) -> int:
        return int((self.numbers == FILLER).sum())


def relative(book: Book, bits: int) -> Relative:
    """The entries of a codebook's weights that are not zero, row by row.

    >>> book = Book(torch.tensor([0, 1, 0, 0, 0, 0, 0, 2]), torch.tensor([0.0, 3.0, 5.0]))
    >>> found = relative(book, 2)
    >>> found.distances.tolist(), found.numbers.tolist()
    ([2, 4, 2], [1, -1, 2])
    """
    kept = book.decode().flatten() != 0
    at = torch.nonzero(kept).flatten().numpy().astype(np.int64)
    away, most = np.diff(at, prepend=-1), 1 << bits
    bridges = (away - 1) // most
    distances = np.full(len(at) + int(bridges.sum()), most, np.int64)
    numbers = np.full(len(distances), FILLER, np.int64)
    ends = np.arange(len(at)) + np.cumsum(bridges)
    distances[ends] = away - bridges * most
    numbers[ends] = book.codes.flatten()[kept].numpy()
    return Relative(distances, numbers)


def huffman_bits(symbols: Ints) -> int:
    """The length of a stream in its own Huffman code, without the table of the code.

    >>> huffman_bits(np.array([7, 7, 7, 1, 2]))
    7
    """
    counts = counted(symbols).counts
    return int((counts * huffman_lengths(counts)).sum())


def restored(found: Relative, table: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The weights that the entries stand for.

    >>> book = Book(torch.tensor([[0, 1], [0, 2]]), torch.tensor([0.0, 3.0, 5.0]))
    >>> restored(relative(book, 1), book.table, (2, 2)).tolist()
    [[0.0, 3.0], [0.0, 5.0]]
    """
    flat = torch.zeros(int(np.prod(shape)))
    at = np.cumsum(found.distances) - 1
    real = found.numbers != FILLER
    flat[torch.from_numpy(at[real])] = table[torch.from_numpy(found.numbers[real])]
    return flat.reshape(shape)
