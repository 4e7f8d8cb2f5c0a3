"""One outlier and what it costs all others: its scale's steps grow with it, and levels go to waste."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from engine.tensor import grids
from engine.tensor.affine import code_range
from engine.tensor.granularity import named

GRANULARITIES = ("tensor", "channel", "group")
COLUMNS = ("times", "one_scale_per", "scales", "step", "sharing", "levels", "levels_used", "sqnr_db")


def stretched(values: Tensor, times: float) -> tuple[Tensor, int]:
    """The values with the one of largest magnitude `times` as large, and its place in the flat tensor.

    >>> stretched(torch.tensor([1.0, -2.0]), 3.0)
    (tensor([ 1., -6.]), 1)
    """
    place = int(values.abs().flatten().argmax())
    moved = values.detach().flatten().clone()
    moved[place] *= times
    return moved.reshape(values.shape), place


def costs(values: Tensor, times: Sequence[float], bits: int, symmetric: bool, group: int) -> pd.DataFrame:
    """What all other weights lose when the largest is so many times as large: columns COLUMNS.

    A row for each of `times` and GRANULARITIES, with ranges from the smallest to the largest weight. Signal
    to noise is that of all weights but the outlier. `step` is that of the outlier's scale, `sharing` counts
    the other weights that have it, and `levels_used` how many of `levels` these take.
    """
    rows = [row for each in times for row in _rows(values, each, bits, symmetric, group)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(values: Tensor, times: float, bits: int, symmetric: bool, group: int) -> list[dict[str, Any]]:
    moved, place = stretched(values, times)
    others = torch.arange(moved.numel()) != place
    low, high = code_range(bits, symmetric)
    rows = []
    for word in GRANULARITIES:
        cut = named(word, group)
        grid = grids.quantize(moved, bits, symmetric, cut)
        tiles = cut.over(torch.arange(math.prod(cut.tiles(moved.shape))), moved.shape).flatten()
        number = int(tiles[place])
        beside = others & (tiles == number)
        lost = (grid.decode() - moved).flatten()[others]
        rows.append(
            {
                "times": times,
                "one_scale_per": word,
                "scales": len(grid.scale),
                "step": float(grid.scale[number]),
                "sharing": int(beside.sum()),
                "levels": high - low + 1 - (symmetric and bits == 1),
                "levels_used": len(torch.unique(grid.codes.flatten()[beside])),
                "sqnr_db": grids.decibels(
                    grids.sum_of_squares(moved.flatten()[others]), grids.sum_of_squares(lost)
                ),
            }
        )
    return rows
