"""Relative indices of a sparse tensor, as Deep Compression stores them (Han 2016, figure 2 and section 4).

Each entry is the distance from the last one and the number of a shared value. A distance that its bits
cannot say is bridged by fillers: entries of value zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from engine.tensor.codes import Ints, counted, huffman_lengths
from engine.tensor.codes.relative_index import bridged
from engine.tensor.formats import Codebook

FILLER = -1  # the symbol of a filler's value


@dataclass(frozen=True, eq=False)
class Relative:
    """Distances (n,) from 1 to 2^bits, and the numbers of shared values (n,), FILLER for a filler."""

    distances: Ints
    numbers: Ints

    @property
    def fillers(self) -> int:
        return int((self.numbers == FILLER).sum())


def relative(book: Codebook, bits: int) -> Relative:
    """The entries of a codebook's weights that are not zero, row by row.

    >>> book = Codebook(torch.tensor([0, 1, 0, 0, 0, 0, 0, 2]), torch.tensor([0.0, 3.0, 5.0]))
    >>> found = relative(book, 2)
    >>> found.distances.tolist(), found.numbers.tolist()
    ([2, 4, 2], [1, -1, 2])
    """
    kept = book.decode().flatten() != 0
    at = torch.nonzero(kept).flatten().numpy().astype(np.int64)
    return Relative(*bridged(np.diff(at, prepend=-1), book.codes.flatten()[kept].numpy(), FILLER, bits))


def huffman_bits(symbols: Ints) -> int:
    """The length of a stream in its own Huffman code, without the table of the code.

    >>> huffman_bits(np.array([7, 7, 7, 1, 2]))
    7
    """
    counts = counted(symbols).counts
    return int((counts * huffman_lengths(counts)).sum())
