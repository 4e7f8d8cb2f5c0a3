"""What a slider would show at each of its stops, worked out before it moves.

A browser that holds these few numbers answers under the finger; the server confirms. Nothing here
touches the weights once they are indexed or decomposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from engine.tensor.index import Index
from engine.types import SlimscopeError

MOST_STOPS = 254


def removals(layer: Index, ranked: Index, by: str, stops: Sequence[float], deviation: float) -> pd.DataFrame:
    """What pruning removes from `layer` at each stop: columns cut, threshold, sparsity.

    `ranked` holds the weights that compete when `by` is `sparsity` (the layer itself, or all layers);
    `deviation` is the layer's standard deviation, which `quality` multiplies. All that is not above
    `cut` goes; `threshold` is the largest magnitude of the layer that does. Where several weights
    have exactly the size of the cut, pruning by sparsity may keep some of them: this removes them all.

    >>> import torch
    >>> from engine.tensor.sorted_index import SortedIndex
    >>> index = SortedIndex(torch.tensor([1.0, -2.0, 3.0, 4.0]))
    >>> removals(index, index, "sparsity", [0.0, 0.5], 1.0).values.tolist()
    [[0.0, 0.0, 0.0], [2.0, 2.0, 0.5]]
    """
    rows = []
    for stop in stops:
        match by:
            case "sparsity":
                cut = ranked.threshold_for(stop)
            case "quality":
                cut = stop * deviation
            case _:
                cut = stop
        gone = layer.count_removed(cut)
        share = gone / len(layer)
        rows.append({"cut": cut, "threshold": layer.threshold_for(share), "sparsity": share})
    return pd.DataFrame(rows, columns=["cut", "threshold", "sparsity"], dtype=np.float64)


def stop_of_removal(magnitudes: NDArray[np.float32], cuts: Sequence[float]) -> NDArray[np.uint8]:
    """For each magnitude the first stop (0..253) whose cut is not below it; 254 where none is, 255 for NaN.

    `cuts` rise, and there are at most MOST_STOPS. Raises SlimscopeError where there are more.

    >>> stop_of_removal(np.array([0.5, 2.0], np.float32), [0.0, 1.0]).tolist()
    [1, 254]
    """
    if len(cuts) > MOST_STOPS:
        raise SlimscopeError(f"{len(cuts)} stops: a picture of bytes tells at most {MOST_STOPS} apart")
    first = np.searchsorted(np.asarray(cuts, np.float32), magnitudes, side="left")
    found = np.where(first < len(cuts), first, MOST_STOPS).astype(np.uint8)
    found[np.isnan(magnitudes)] = 255
    return found
