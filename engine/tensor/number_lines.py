"""One tensor in every number system: what each costs and loses, and where its levels lie."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from engine.tensor.formats import Levels
from engine.tensor.granularity import TENSOR, Granularity, named, per_group
from engine.tensor.grids import decibels, sum_of_squares
from engine.tensor.number_systems import BLOCK, EXPONENT, SYSTEMS

NAMES = tuple(name for name in SYSTEMS if name != "ternary")  # what a whole layer may be stored in
FREE = ("fp8_e4m3", "fp8_e5m2", "logarithmic", "nf4", "int4", "power_of_two")  # scales where one likes
COLUMNS = ("layer", "bits", "bits_per_weight", "levels", "sqnr_db", "bytes")
RESOLUTION = 400  # places on either side of zero that ticks are told apart at


def tiles_of(number: str, granularity: str, group: int) -> Granularity:
    """What shares a scale: formats with blocks have them of one size, and 16-bit floats have no scales."""
    if number in FREE:
        return named(granularity, group)
    return per_group(BLOCK) if SYSTEMS[number].scaling == EXPONENT else TENSOR


def compared(values: Tensor, granularity: str, group: int) -> pd.DataFrame:
    """A row for each number system: columns COLUMNS; `layer` is its title, `bytes` are at fixed width."""
    rows = []
    for name in NAMES:
        levels = Levels.of(values, name, tiles_of(name, granularity, group))
        noise, bits = sum_of_squares(levels.decode() - values), levels.fixed_bits()
        rows.append(
            {
                "layer": SYSTEMS[name].title,
                "bits": SYSTEMS[name].bits,
                "bits_per_weight": bits / max(values.numel(), 1),
                "levels": len(SYSTEMS[name].values),
                "sqnr_db": decibels(sum_of_squares(values), noise),
                "bytes": bits // 8,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def ticks(levels: Levels, reach: float) -> list[float]:
    """The levels of the widest tile within -reach and reach; of those too close to tell apart, one.

    >>> import torch
    >>> ticks(Levels.of(torch.tensor([2.0, -1.0]), "ternary"), 2.0)
    [-2.0, 0.0, 2.0]
    """
    at = (levels.system.levels.double() * levels.scale.max().double()).numpy()
    inside = at[np.abs(at) <= reach * (1 + 1e-6)]
    places = np.unique(np.round(inside / reach * RESOLUTION), return_index=True)[1]
    found: list[float] = inside[places].tolist()
    return found
