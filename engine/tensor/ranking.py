"""What pruning by size removes, worked out from indexes of the weights: no weight is touched.

`settings` are those of `prune_weights`; a pool gives the index of any layers together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from engine.tensor.index import Index
from engine.types import SlimscopeError

NO_CUT = np.zeros(0, np.float32)
BY_SIZE_ONLY = (
    "a model this large is pruned by size, weight by weight, with one share for each layer or one ranking "
    "over all: choose score magnitude, granularity element, and allocation layer or global"
)

Pool = Callable[[tuple[str, ...]], Index]  # the index of these layers together, as they enter the step


def as_threshold(settings: dict[str, Any], layer: str, labels: Sequence[str], pool: Pool) -> dict[str, Any]:
    """The same pruning of a layer by a threshold, taken from all the weights that compete.

    Raises SlimscopeError where no threshold does the same.
    """
    if not by_threshold(settings):
        raise SlimscopeError(BY_SIZE_ONLY)
    if settings["by"] == "threshold" or layer in settings["leave_out"]:
        return settings
    return {**settings, "by": "threshold", "threshold": cut(settings, layer, labels, pool), "per_layer": {}}


def by_threshold(settings: Mapping[str, Any]) -> bool:
    """Whether a pruning removes what is not above a threshold, which an index of the weights can find."""
    return by_size(settings) and (
        settings["by"] != "sparsity" or settings["allocation"] not in ("erk", "row")
    )


def by_size(settings: Mapping[str, Any]) -> bool:
    """Whether a pruning removes the weights of a layer that are smallest, each by itself."""
    return settings["by"] != "sparsity" or (settings["score"], settings["granularity"]) == (
        "magnitude",
        "element",
    )


def cut(settings: Mapping[str, Any], layer: str, labels: Sequence[str], pool: Pool) -> float:
    """The largest magnitude that pruning with these settings may remove from a layer."""
    if settings["by"] == "threshold":
        return float(settings["threshold"])
    if settings["by"] == "quality":
        return float(settings["quality"]) * deviation(pool((layer,)))
    own, apart = settings["per_layer"], (*settings["leave_out"], *settings["per_layer"])
    if layer in own or settings["allocation"] == "layer":
        return pool((layer,)).threshold_for(own.get(layer, settings["sparsity"]))
    return pool(tuple(x for x in labels if x not in apart)).threshold_for(settings["sparsity"])


def deviation(index: Index) -> float:
    """Standard deviation of the indexed values, the population's."""
    mean = float(index.split(NO_CUT).sums[0]) / len(index)
    return math.sqrt(max(sum_of_squares(index) / len(index) - mean**2, 0.0))


def sum_of_squares(index: Index) -> float:
    """Of all indexed values."""
    return float(index.split(NO_CUT).squares[0])


def sorted_sizes(index: Index, points: int) -> pd.DataFrame:
    """The magnitudes of all indexed values, sorted: columns share (of the values) and size.

    >>> import torch
    >>> from engine.tensor.sorted_index import SortedIndex
    >>> sorted_sizes(SortedIndex(torch.tensor([-3.0, 1.0, 2.0, -4.0])), 9).values.tolist()
    [[0.25, 1.0], [0.5, 2.0], [0.75, 3.0], [1.0, 4.0]]
    """
    places = np.unique(np.linspace(1, len(index), min(points, len(index))).round().astype(int))
    sizes = [index.threshold_for(place / len(index)) for place in places]
    return pd.DataFrame({"share": places / len(index), "size": sizes})


def shares_removed(settings: Mapping[str, Any], labels: Sequence[str], pool: Pool) -> dict[str, float]:
    """Layer -> the share of its weights that pruning removes, from indexes alone; without those left out."""
    limits = _limits(settings, labels, pool)
    return {x: pool((x,)).count_removed(limit) / len(pool((x,))) for x, limit in limits.items()}


def _limits(settings: Mapping[str, Any], labels: Sequence[str], pool: Pool) -> dict[str, float]:
    """Layer -> the magnitude up to which its weights go; a threshold of all layers is looked for once."""
    everywhere = settings["by"] == "sparsity" and settings["allocation"] == "global"
    layers = [label for label in labels if label not in settings["leave_out"]]
    together = [layer for layer in layers if everywhere and layer not in settings["per_layer"]]
    shared = dict.fromkeys(together, cut(settings, together[0], labels, pool)) if together else {}
    return {x: shared[x] if x in shared else cut(settings, x, labels, pool) for x in layers}


def removals(settings: Mapping[str, Any], labels: Sequence[str], pool: Pool) -> pd.DataFrame:
    """What pruning removes from every layer, from indexes alone: a row per layer that is not left out.

    Columns layer, weights, kept, removed, sparsity, threshold, energy_kept, and `within`: the true
    share removed lies at most that far from `sparsity`.
    """
    rows = []
    for layer, limit in _limits(settings, labels, pool).items():
        index, total = pool((layer,)), sum_of_squares(pool((layer,)))
        removed = index.count_removed(limit)
        rows.append(
            {
                "layer": layer,
                "weights": len(index),
                "kept": len(index) - removed,
                "removed": removed,
                "sparsity": removed / len(index),
                "threshold": limit,
                "energy_kept": 1 - index.energy_removed(limit) / total if total else 1.0,
                "within": index.error_bound(limit)[0] / len(index),
            }
        )
    return pd.DataFrame(rows)
