"""How much of which layer goes: the same share, of each output too, one ranking over all, or ERK."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from engine.tensor.masks.units import by_row, by_score, by_score_over
from engine.types import SlimscopeError

ALLOCATIONS = ("layer", "global", "erk", "row")


def by_allocation(
    values: Sequence[Tensor],
    scores: Sequence[Tensor] | None,
    sparsity: float,
    allocation: str,
    granularity: str = "element",
    *,
    block: int = 4,
    norm: str = "l1",
) -> list[Tensor]:
    """One mask per layer: the same share of each (`layer`), one ranking over all (`global`), or `erk`.

    With `row`, each output loses the same share of its weights (Wanda: Sun 2023, arXiv 2306.11695): single
    weights only. Raises SlimscopeError for another allocation, and as `units` does.
    """
    if allocation not in ALLOCATIONS:
        raise SlimscopeError(f"allocation is {allocation!r}: allowed is one of {', '.join(ALLOCATIONS)}")
    if allocation == "global":
        return by_score_over(values, scores, sparsity, granularity, block=block, norm=norm)
    if allocation == "row" and granularity != "element":
        raise SlimscopeError(
            f"allocation 'row' compares the weights of one output, not a {granularity}: choose granularity "
            "element, or allocation layer, global or erk"
        )
    shares = erk([v.shape for v in values], sparsity) if allocation == "erk" else [sparsity] * len(values)
    rated = [None] * len(values) if scores is None else scores
    if allocation == "row":
        return [by_row(v, s, sparsity) for v, s in zip(values, rated, strict=True)]
    return [
        by_score(v, s, share, granularity, block=block, norm=norm)
        for v, s, share in zip(values, rated, shares, strict=True)
    ]


def with_own_shares(
    values: Mapping[str, Tensor],
    rated: Mapping[str, Tensor],
    sparsity: float,
    allocation: str,
    per_layer: Mapping[str, float],
    ranked: Callable[..., list[Tensor]],
) -> dict[str, Tensor]:
    """Masks by `ranked(weights, scores, share, allocation)`; layers with a share of their own are apart."""

    def kept(labels: Sequence[str], share: float, allocation: str) -> dict[str, Tensor]:
        worth = [rated[label] for label in labels] if rated else None
        chosen = ranked([values[label] for label in labels], worth, share, allocation)
        return dict(zip(labels, chosen, strict=True))

    found: dict[str, Tensor] = {}
    for label in (x for x in values if x in per_layer):
        found |= kept([label], per_layer[label], "layer")
    return found | kept([x for x in values if x not in per_layer], sparsity, allocation)


def erk(sizes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
    """The share that each layer loses under Erdos-Renyi-Kernel, for `round(sparsity * n)` weights in all.

    A layer keeps a share in proportion to the sum of its sides over their product (outputs, inputs,
    height, width), so that small layers lose less. Layers that would keep more than all keep all,
    and the others lose the more; fractions of weights go to the largest remainders, which makes
    the total exact. (Evci 2020, arXiv 1911.11134)

    >>> erk([(10, 10), (10, 40)], 0.5)
    [0.29, 0.5525]
    """
    weights, sides = [math.prod(size) for size in sizes], [sum(size) for size in sizes]
    kept = sum(weights) - round(sparsity * sum(weights))
    whole: set[int] = set()
    exact = [float(n) for n in weights]
    while len(whole) < len(sizes):
        rest = [i for i in range(len(sizes)) if i not in whole]
        scale = (kept - sum(weights[i] for i in whole)) / sum(sides[i] for i in rest)
        exact = [weights[i] if i in whole else scale * sides[i] for i in range(len(sizes))]
        full = {i for i in rest if exact[i] > weights[i]}
        if not full:
            break
        whole |= full
    counts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: kept - sum(counts)]:
        counts[i] += 1
    return [(n - count) / n for n, count in zip(weights, counts, strict=True)]
