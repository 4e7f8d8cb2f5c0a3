"""One-dimensional k-means: the tables of shared weights, from a sorted index instead of passes.

The start is the best partition of 512 bins or more, found by dynamic programming; Lloyd's steps on
the index then move its borders to single weights. With no more different values than bins the start is
the optimum. The other starts are those of Han 2016 (arXiv 1510.00149, section 3.2) and take no search:
fit for a slider. Nothing here knows of layers or masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.tensor.compiled import compiled
from engine.tensor.index import Counts, Index, Moments, Wide, cuts_between
from engine.tensor.sorted_index import SortedIndex
from engine.types import SlimscopeError

MOST = 256  # entries of a table
BINS = 8  # for each entry, in the dynamic programme,
LEAST = 64  # and as many as for 64 where there are fewer
STEPS = 100  # of Lloyd's
STILL = 1e-4  # share of the values that may still change their entry when Lloyd's steps end
STARTS = ("best", "linear", "density", "random")
WAYS = 8  # of how many bins one is searched first
STRIDES = (512, 64, 8, 1)


@dataclass(frozen=True, eq=False)
class Clusters:
    """A table (k,) float32 that rises, how many values go to each entry (k,) int64, and the squared error.

    `engine.tensor.sharing.share` makes a parameter of the table.
    """

    table: Tensor
    counts: Tensor
    sse: float


def kmeans(
    values: Tensor | Index, k: int, start: str = "best", seed: int = 0, steps: int = STEPS
) -> Clusters:
    """At most `k` shared values for a tensor of any shape, of nearly least squared error (Lloyd 1982).

    The other starts are quicker than a search, and worse: `linear` begins with `k` even steps between the
    extremes, `density` with even steps of the values' ranks, `random` with values drawn by `seed`. Lloyd's
    method takes at most `steps` steps. Fewer values come back where the tensor has fewer different ones,
    or an entry has none nearest to it. The error is that of the float32 table, so
    where values lie a few units in the last place apart, the rounding of the means is in it.
    Deterministic. Raises SlimscopeError where k is not 1 to 256, the start is another, or a value is not
    finite.

    >>> kmeans(torch.tensor([1.0, 1.25, 5.0, 5.5, 5.75]), 2).table.tolist()
    [1.125, 5.416666507720947]
    """
    if not 1 <= k <= MOST:
        raise SlimscopeError(f"k is {k}: allowed is 1 to {MOST} shared values")
    if start not in STARTS:
        raise SlimscopeError(f"start is {start!r}: allowed are {', '.join(STARTS)}")
    index = SortedIndex(values) if isinstance(values, Tensor) else values
    table = torch.from_numpy(
        np.unique(_lloyd(index, *_begin(index, k, start, seed), steps).astype(np.float32))
    )
    table = table[torch.from_numpy(index.on_table(table).counts > 0)]
    answer = index.on_table(table)
    return Clusters(table, torch.from_numpy(answer.counts), answer.sse)


def _begin(index: Index, k: int, start: str, seed: int) -> tuple[Wide, Counts]:
    """A first table that rises, and how many values each entry is the mean of: none, but for `best`."""
    match start:
        case "linear":
            table = np.linspace(index.least, index.largest, k)
        case "density":
            bins = index.bins(BINS * max(k, LEAST))
            middles = np.cumsum(bins.counts) - bins.counts / 2
            ranks = (np.arange(k) + 0.5) / k * len(index)
            table = np.interp(ranks, middles, bins.sums / np.maximum(bins.counts, 1))
        case "random":
            bins = index.bins(BINS * max(k, LEAST))
            held = np.flatnonzero(bins.counts)
            share = bins.counts[held] / len(index)
            drawn = np.random.default_rng(seed).choice(held, min(k, len(held)), False, share)
            table = bins.sums[drawn] / bins.counts[drawn]
        case _:
            return _start(index.bins(BINS * max(k, LEAST)), k)
    table = np.unique(table)
    return table, np.zeros(len(table), dtype=np.int64)


def assign(values: Tensor, table: Tensor) -> Tensor:
    """Codes int32 of the nearest entry of a rising table (k,), in the shape of `values`.

    A value in the middle between two entries goes to the lower one, as `Index.on_table` counts.

    >>> assign(torch.tensor([[0.0, 0.9], [0.5, 2.0]]), torch.tensor([0.0, 1.0])).tolist()
    [[0, 1], [0, 1]]
    """
    levels = table.detach().double().numpy()
    if not len(levels) or (np.diff(levels) < 0).any():
        raise SlimscopeError(f"the table {levels[:4].tolist()}... does not rise: sort it")
    cuts = torch.from_numpy(cuts_between(levels))
    return torch.bucketize(values.detach().to(torch.float32), cuts, out_int32=True, right=True)


def _lloyd(index: Index, table: Wide, counts: Counts, steps: int = STEPS) -> Wide:
    """Means of what is nearest to each entry, again and again, until hardly a value changes its entry.

    `counts` (k,) says how many values each entry of `table` (k,) is the mean of. An entry that none is
    nearest to stays where it is: it is still between its neighbours, and may get some later.
    """
    for _ in range(steps):
        parts = index.split(cuts_between(table))
        moved = np.abs(np.cumsum(parts.counts - counts)).sum()
        if not moved:
            break
        means = parts.sums / np.maximum(parts.counts, 1)
        table, counts = np.where(parts.counts > 0, means, table), parts.counts
        if moved <= STILL * len(index):
            break
    return table


# ---------------------------------------------------------------- the best partition of bins


def _start(bins: Moments, k: int) -> tuple[Wide, Counts]:
    """(means, counts) of the k groups of neighbouring bins with least squared error."""
    held = bins.counts > 0
    counts, sums = bins.counts[held], bins.sums[held]
    means = sums / counts
    if len(means) <= k:
        return means, counts
    borders = _best_borders(_costs(means, counts), k)
    grouped: Counts = np.add.reduceat(counts, borders)
    return np.add.reduceat(sums, borders) / grouped, grouped


@compiled
def _costs(means: Wide, counts: Counts) -> Wide:
    """Squared error of one level for bins i..j, at [j, i]; each bin is as good as its mean: (m, m).

    Welford's update: prefix sums would cancel where values are close to each other.
    """
    total = len(means)
    costs = np.zeros((total, total))
    weight, centre, error = np.zeros(total), np.zeros(total), np.zeros(total)
    for j in range(total):
        count = float(counts[j])
        for i in range(j + 1):
            away, grown = means[j] - centre[i], weight[i] + count
            error[i] += away**2 * (weight[i] * count / grown)
            centre[i] += away * (count / grown)
            weight[i] = grown
            costs[j, i] = error[i]
    return costs


def _best_borders(costs: Wide, k: int) -> Counts:
    """Where the groups of the best partition into at most k begin: rising, from 0."""
    total = len(costs)
    best = np.concatenate(([0.0], costs[:, 0]))  # of the first 0, 1, ... bins in one group
    chosen = []
    for _ in range(k - 1):
        best, last = _one_more_group(best, costs)
        chosen.append(last)
    borders, end = [], total
    for last in reversed(chosen):
        end = int(last[end])
        borders.append(end)
    return np.unique([0, *borders])


@compiled
def _one_more_group(best: Wide, costs: Wide) -> tuple[Wide, Counts]:
    """Least error of the first j bins with one more group, and where that begins first: (m + 1,) each.

    The last group's beginning rises with j. So some j are searched first, and bound those between them,
    level by level (divide and conquer: some m log m errors are looked at, not m^2).
    """
    total = len(costs)
    found, begins = np.zeros(total + 1), np.zeros(total + 1, dtype=np.int64)
    for step in STRIDES:
        wide = step * WAYS
        for j in range(step, total + 1, step):
            if step < STRIDES[0] and j % wide == 0:
                continue
            before = j - j % wide
            low, high = begins[before], total
            if before + wide <= total:
                high = begins[before + wide]
            at, least = low, best[low] + costs[j - 1, low]
            for i in range(low + 1, min(max(high, low), j - 1) + 1):
                error = best[i] + costs[j - 1, i]
                if error < least:
                    at, least = i, error
            found[j], begins[j] = least, at
    return found, begins


def warm_up() -> None:
    """Compile the search, or read it from where it is kept."""
    _one_more_group(np.zeros(2), _costs(np.zeros(1), np.ones(1, np.int64)))
