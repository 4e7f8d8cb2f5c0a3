"""A matrix as a sum: its first rank-one pieces as pictures, and under each what they add up to."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.tensor import factors
from engine.tensor.factors import Decomposition
from pages.parts import weight_maps
from pages.parts.pictures import of_tensor

PIECES = 5  # drawn, of however many
PIXELS, TALL = 160, 75


def drawn(parts: Decomposition, whole: Tensor, reach: float, squares: str = "squares") -> str:
    """Two rows of pictures: the pieces on the first one's scale of colour, and their sums on that of the matrix, `reach`.

    `squares` says whose sum each piece has a share of.
    """
    cells, total = [], torch.zeros_like(whole)
    first = float(factors.piece(parts, 1).abs().flatten()[:1_000_000].quantile(0.995))
    for number in range(1, min(PIECES, parts.full_rank) + 1):
        piece = factors.piece(parts, number)
        total = total + piece
        kept = factors.energy(parts.values, number)
        own = kept - (factors.energy(parts.values, number - 1) if number > 1 else 0.0)
        sign = "" if number == 1 else "+ "
        cells.append(
            _figure(piece, first, f"{sign}piece {number}", f"{own:.1%} of the sum of {squares}")
            + _figure(
                total, reach, "= the first piece" if number == 1 else f"= the first {number}", f"{kept:.1%}"
            )
        )
    more = parts.full_rank - len(cells)
    rest = (
        f'<p class="caption">... and {more:,} more. The pieces share one scale of colour; the sums have that of the original.</p>'
        if more
        else ""
    )
    columns = "".join(f"<div>{cell}</div>" for cell in cells)
    return f'<div class="pieces">{columns}</div>{rest}'


def _figure(matrix: Tensor, reach: float, title: str, words: str) -> str:
    picture = of_tensor(weight_maps.signed_map(matrix, reach, PIXELS), f"{title}: {words}", TALL, "both")
    return f'<figure>{picture}<figcaption class="caption"><b>{title}</b>, {words}</figcaption></figure>'
