"""Bits dealt out to layers under a budget of bytes, and the tables that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from engine.figures.widths import LISTED
from engine.tensor import bit_budget

LAYER_COLUMNS = ("layer", "weights", "bits", "bytes", "sensitivity", "squared_error", "uniform_bits")
TRIED = ("predicted", "measured", "accuracy", "low", "high", "change", "change_low", "change_high")
TABLES = {
    "layers": LAYER_COLUMNS,
    "models": ("model", "bits_per_weight", "bytes", *TRIED),
    "widths": (*LISTED, "sensitivity"),
}
ROUNDED = 1e-9  # of a budget: settings are written with ten digits


@dataclass(frozen=True)
class Deal:
    """Layer -> its bits, and the largest width for all that fits the budget, too; None where none does."""

    bits: Mapping[str, int]
    uniform: int | None

    @property
    def same(self) -> dict[str, int]:
        """The uniform width for each layer."""
        return {} if self.uniform is None else dict.fromkeys(self.bits, self.uniform)


def limit(budget: float, weights: int) -> int:
    """Bytes of so many weights at a budget of bits a weight.

    >>> limit(2.5, 100)
    31
    """
    return int(budget * weights / 8 * (1 + ROUNDED))


def deal(told: pd.DataFrame, budget: int) -> Deal:
    """The widths within a budget of bytes that lose least in all, exactly; `told` is of `widths.told`.

    Raises SlimscopeError where the narrowest take more.
    """
    groups = [rows for _, rows in told.groupby("layer", sort=False)]
    costs, losses = ([rows[name].tolist() for rows in groups] for name in ("bytes", "sensitivity"))
    places = bit_budget.least_loss(costs, losses, budget).places
    chosen = [rows.iloc[place] for rows, place in zip(groups, places, strict=True)]
    sizes = told.groupby("bits")["bytes"].sum()
    fits = sizes[sizes <= budget].index
    return Deal({row["layer"]: int(row["bits"]) for row in chosen}, int(max(fits)) if len(fits) else None)


def at(told: pd.DataFrame, bits: Mapping[str, int]) -> pd.DataFrame:
    """The rows of a table of layers and widths at these bits, one for each layer."""
    return told[told["bits"] == told["layer"].map(bits)].reset_index(drop=True)


def layer_table(told: pd.DataFrame, weights: Mapping[str, int], dealt: Deal) -> pd.DataFrame:
    """A row for each layer: columns LAYER_COLUMNS; without `uniform_bits` where no width for all fits."""
    mine = at(told, dealt.bits)
    table = mine.assign(weights=mine["layer"].map(weights), uniform_bits=dealt.uniform)
    columns = LAYER_COLUMNS if dealt.uniform is not None else LAYER_COLUMNS[:-1]
    return table[list(columns)]
