"""What each clip of one scale costs: round-off inside of it, clipping outside, and the weights inside."""

from __future__ import annotations

import numpy as np
import pandas as pd

from engine.tensor.index import Index, grid_codes, grid_levels


def clip_curve(index: Index, bits: int, symmetric: bool) -> pd.DataFrame:
    """A row for each clip of 1 %, 2 %, ... 100 % of the range: clip, roundoff, clipping, inside.

    Both errors are shares of the sum of squares, and add up to the error of rounding all weights to the grid
    of that clip: what lies beyond its outermost levels is clipping, the rest round-off (Banner 2019, arXiv
    1810.05723, section 3). `inside` is the share of the non-zero weights that lie in the clipped range.

    >>> import torch
    >>> from engine.tensor.sorted_index import SortedIndex
    >>> curve = clip_curve(SortedIndex(torch.tensor([-1.0, 0.25, 0.5, 4.0])), 2, True)
    >>> curve.iloc[24].round(4).to_dict()  # levels -1, 0, 1: 0.25 and 0.5 go to 0 (ties to even), 4 to 1
    {'clip': 0.25, 'roundoff': 0.0181, 'clipping': 0.5199, 'inside': 0.75}
    """
    errors = index.clip_errors(bits, symmetric)
    total = _squares(index)
    clipping = np.minimum(index.clipped_errors(bits, symmetric), errors["sse"])
    reach = max(-index.least, index.largest)
    low, high = (-reach, reach) if symmetric else (min(index.least, 0.0), max(index.largest, 0.0))
    inside = [_inside(index, clip * low, clip * high) for clip in errors["clip"]]
    zeros = index.count_removed(0.0)
    return pd.DataFrame(
        {
            "clip": errors["clip"],
            "roundoff": (errors["sse"] - clipping) / total,
            "clipping": clipping / total,
            "inside": (np.array(inside) - zeros) / max(len(index) - zeros, 1),
        }
    )


def clip_at(index: Index, scale: float, zero: int, bits: int, symmetric: bool) -> tuple[float, float]:
    """(round-off, clipping) of one grid, as `clip_curve` has them."""
    ends = grid_levels(np.float32(scale), zero, grid_codes(bits, symmetric)[[0, -1]])
    lost = index.on_grid(scale, zero, bits, symmetric).sse
    clipping = min(index.beyond(*ends), lost)
    return (lost - clipping) / _squares(index), clipping / _squares(index)


def _squares(index: Index) -> float:
    return float(index.split(np.zeros(0, np.float32)).squares[0]) or 1.0


def _inside(index: Index, low: float, high: float) -> int:
    first, last = index.place(np.array([low], np.float32)), index.place(np.array([high], np.float32), "right")
    return int(last[0] - first[0])
