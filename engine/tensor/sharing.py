"""Shared weights: a table for one tensor or for several, and the codebook that it makes of a tensor.

Exact zeros take no entry of a table: they are the mask, and stay zero. `ranked_alone` and `ranked_table`
answer for models too large for every move, from indexes of their weights; `settings` are those of
`share_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from engine.tensor import codes
from engine.tensor.formats import Codebook
from engine.tensor.grids import decibels
from engine.tensor.index import Floats, GridAnswer, Index, Moments, Side, Wide, cuts_between
from engine.tensor.kmeans import assign, kmeans
from engine.tensor.ranking import NO_CUT, Pool
from engine.tensor.sorted_index import SortedIndex

FLOAT = 32  # bits of an entry
NOTHING: Mapping[str, float] = {}
EMPTY = torch.zeros(0)
LAYER_COLUMNS = (
    "layer",
    "weights",
    "shared",
    "entries",
    "index_bits",
    "bits_per_weight",
    "sqnr_db",
    "mse",
    "max_error",
    "by_hand",
)

ENTRY_COLUMNS = ("layer", "entry", "value", "weights")


def table_of(values: Tensor | Index, k: int, start: str, seed: int = 0) -> Tensor:
    """The shared values (at most k,) of what is not zero, rising; none where all is zero."""
    if isinstance(values, Tensor):
        values = values.detach().flatten()
        values = values[values != 0]
        return kmeans(values, k, start, seed).table if len(values) else EMPTY
    kept = without_zeros(values)
    return kmeans(kept, k, start, seed).table if len(kept) else EMPTY


def share(values: Tensor, table: Tensor, by_hand: Mapping[str, float] = NOTHING) -> Codebook:
    """Each weight at the nearest entry of a rising table (k,); exact zeros at an entry 0 in front of it.

    `by_hand` puts entries elsewhere afterwards: their weights go with them. Numbers beyond the table are
    passed by.

    >>> book = share(torch.tensor([0.0, 0.9, 1.1, 5.0]), torch.tensor([1.0, 5.0]), {"1": 4.0})
    >>> book.codes.tolist(), book.table.tolist(), book.decode().tolist()
    ([0, 1, 1, 2], [0.0, 1.0, 4.0], [0.0, 1.0, 1.0, 4.0])
    """
    zero = values == 0
    masked = int(bool(zero.any()))
    numbers = assign(values, table) if len(table) else torch.zeros_like(values, dtype=torch.int32)
    entries = torch.cat([torch.zeros(masked), moved(table, by_hand)])
    return Codebook(torch.where(zero, 0, numbers + masked).to(torch.int32), entries)


def used(book: Codebook) -> Codebook:
    """The same values with the entries that some weight has, and no others.

    >>> used(Codebook(torch.tensor([2, 0]), torch.tensor([1.0, 2.0, 3.0]))).table.tolist()
    [1.0, 3.0]
    """
    found, numbers = torch.unique(book.codes, return_inverse=True)
    return Codebook(numbers.to(torch.int32).reshape(book.codes.shape), book.table[found.long()])


def moved(table: Tensor, by_hand: Mapping[str, float]) -> Tensor:
    """The table (k,) with some entries elsewhere."""
    entries = table.clone()
    for number, value in by_hand.items():
        if int(number) < len(entries):
            entries[int(number)] = value
    return entries


@dataclass(frozen=True)
class Bits:
    """What shared weights take: bits of an index, and of all of them with their tables."""

    index: int
    total: int


def bits_of(weights: int, kept: int, entries: int) -> Bits:
    """An index for each weight that is kept, a float for each entry, a bit a weight for a mask where one is.

    >>> bits_of(16, 16, 4).total  # figure 3 of Han 2016: 512 bits become 160
    160
    """
    index = codes.width(entries) if entries else 0
    return Bits(index, kept * index + FLOAT * entries + (weights if kept < weights else 0))


def entries_in(layer: str, values: Tensor, table: Tensor, by_hand: Mapping[str, float]) -> pd.DataFrame:
    """Each entry of a layer's table, where it is now, and how many of its weights have it: ENTRY_COLUMNS."""
    kept = values[values != 0]
    counts = torch.bincount(assign(kept, table), minlength=len(table)) if len(kept) else table
    columns = (layer, range(len(table)), moved(table, by_hand).tolist(), counts.tolist())
    return pd.DataFrame(dict(zip(ENTRY_COLUMNS, columns, strict=True)))


def row_of(layer: str, values: Tensor, book: Codebook, by_hand: int) -> dict[str, Any]:
    """What sharing did to a layer: LAYER_COLUMNS."""
    lost = (book.decode() - values).double()
    noise = float(lost.square().sum())
    kept = int(values.count_nonzero())
    entries = len(book.table) - int(kept < values.numel())
    bits = bits_of(values.numel(), kept, entries)
    return {
        "layer": layer,
        "weights": values.numel(),
        "shared": kept,
        "entries": entries,
        "index_bits": bits.index,
        "bits_per_weight": bits.total / values.numel(),
        "sqnr_db": decibels(float(values.double().square().sum()), noise),
        "mse": noise / values.numel(),
        "max_error": float(lost.abs().max()),
        "by_hand": by_hand,
    }


# ---------------------------------------------------------------- which layers share a table


def entries_of(settings: Mapping[str, Any], layer: str) -> int:
    return int(settings["per_layer"].get(layer, settings["entries"]))


def together(settings: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """The layers that share one table: none where each has its own."""
    if settings["allocation"] == "layer":
        return []
    apart = (*settings["leave_out"], *settings["per_layer"], *settings["tables"])
    return [label for label in labels if label not in apart]


def hand_of(settings: Mapping[str, Any], layer: str, common: Sequence[str]) -> dict[str, float]:
    """The entries of a layer's table that are set by hand; of a common table, under any of its layers."""
    owners = common if layer in common else [layer]
    return {n: v for owner in owners for n, v in settings["by_hand"].get(owner, NOTHING).items()}


def given_of(settings: Mapping[str, Any], layer: str) -> Tensor | None:
    """The table that is given for a layer, rising."""
    if layer not in settings["tables"]:
        return None
    table: Tensor = torch.unique(torch.tensor(list(settings["tables"][layer].values())))
    return table


# ---------------------------------------------------------------- from indexes


def without_zeros(index: Index) -> Index:
    """The index of what is not zero."""
    if isinstance(index, SortedIndex) and len(index) > index.count_removed(0.0):
        return SortedIndex(torch.from_numpy(index.values[index.values != 0]))
    return NonZero(index)


class NonZero(Index):
    """A histogram index without its zeros, for the search of a table."""

    def __init__(self, index: Index) -> None:
        self._index, self._zeros = index, index.count_removed(0.0)
        self.size, self.least, self.largest = len(index) - self._zeros, index.least, index.largest

    @property
    def nbytes(self) -> int:
        return self._index.nbytes

    def place(self, cuts: Any, side: Side = "left") -> Any:
        raise NotImplementedError

    def threshold_for(self, sparsity: float) -> float:
        raise NotImplementedError

    def error_bound(self, threshold: float) -> tuple[int, float]:
        raise NotImplementedError

    def split(self, cuts: Floats) -> Moments:
        found = self._index.split(cuts)
        return self._less(found, int(np.searchsorted(cuts, 0.0, "right")))

    def bins(self, most: int) -> Moments:
        found = self._index.bins(most)
        below = int(self._index.place(np.float32(0.0)))
        return self._less(found, int(np.searchsorted(np.cumsum(found.counts), below, "right")))

    def _less(self, found: Moments, at: int) -> Moments:
        """Zeros add nothing to sums."""
        counts = found.counts.copy()
        if self._zeros:
            counts[at] -= self._zeros
        return Moments(counts, found.sums, found.squares)

    def _answer(self, cuts: Floats, levels: Wide) -> GridAnswer:
        found = self._index._answer(cuts, levels)
        at = int(np.searchsorted(cuts, 0.0, "right"))
        counts = found.counts.copy()
        counts[at] -= self._zeros
        sse = max(found.sse - self._zeros * float(levels[at]) ** 2, 0.0)
        return GridAnswer(sse, found.codes, counts, found.sse_bound, found.counts_bound)


def ranked_alone(settings: dict[str, Any], layer: str, labels: Sequence[str], pool: Pool) -> dict[str, Any]:
    """Settings under which the layer by itself gets the table that it has in its model."""
    if layer in settings["leave_out"] or layer in settings["tables"]:
        return {**settings, "allocation": "layer"}
    common = together(settings, labels)
    index = pool(tuple(common) if layer in common else (layer,))
    k = settings["entries"] if layer in common else entries_of(settings, layer)
    table = table_of(index, k, settings["start"], settings["seed"]).tolist()
    return {
        **settings,
        "allocation": "layer",
        "tables": {layer: {str(i): value for i, value in enumerate(table)}},
        "by_hand": {layer: hand_of(settings, layer, common)},
    }


def ranked_table(settings: dict[str, Any], labels: Sequence[str], pool: Pool) -> pd.DataFrame:
    """What sharing does to every layer that is not left out, with no weight touched: LAYER_COLUMNS."""
    common, shared, rows = together(settings, labels), EMPTY, []
    if common:
        shared = table_of(pool(tuple(common)), settings["entries"], settings["start"], settings["seed"])
    for layer in (label for label in labels if label not in settings["leave_out"]):
        index, table = pool((layer,)), given_of(settings, layer)
        if table is None and layer in common:
            table = shared
        elif table is None:
            table = table_of(index, entries_of(settings, layer), settings["start"], settings["seed"])
        rows.append(_row_from(layer, index, table, hand_of(settings, layer, common)))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS).drop(columns="max_error")


def _row_from(layer: str, index: Index, table: Tensor, by_hand: Mapping[str, float]) -> dict[str, Any]:
    kept = without_zeros(index)
    noise = _noise(kept, table, by_hand) if len(kept) else 0.0
    bits = bits_of(len(index), len(kept), len(table))
    return {
        "layer": layer,
        "weights": len(index),
        "shared": len(kept),
        "entries": len(table),
        "index_bits": bits.index,
        "bits_per_weight": bits.total / len(index),
        "sqnr_db": decibels(float(index.split(NO_CUT).squares[0]), noise),
        "mse": noise / len(index),
        "by_hand": len(by_hand),
    }


def _noise(index: Index, table: Tensor, by_hand: Mapping[str, float]) -> float:
    """The squared error of an index on a table, with some entries put elsewhere afterwards."""
    parts = index.split(cuts_between(table.double().numpy()))
    return float(parts.errors(moved(table, by_hand).double().numpy()).sum())
