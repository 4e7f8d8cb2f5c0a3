"""Ranks of a model's layers: their own, what a setting means for each, or what one budget deals out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.net.low_rank import Layer
from engine.tensor import rank_budget, splits
from engine.tensor.splits import NOTHING, Options, Ranks


def alone(
    layers: Sequence[Layer],
    by: str,
    value: float | None,
    per_layer: Mapping[str, int],
    input_ranks: Mapping[str, int],
) -> dict[str, Ranks]:
    """Ranks of layers that have their own; with a `value`, of the others what that means for each.

    `by` is rank, energy or share.
    """
    found: dict[str, Ranks] = {}
    for layer in layers:
        if layer.split is None:
            continue
        own = splits.own(layer.split, per_layer.get(layer.label), input_ranks.get(layer.label))
        if own is None and value is not None:
            own = splits.chosen(layer.split, by, value)
        if own is not None:
            found[layer.label] = own
    return found


def dealt(
    layers: Sequence[Layer],
    own: Mapping[str, Ranks],
    budget: float,
    losing: Mapping[str, Options] | None = None,
) -> tuple[dict[str, Ranks], list[str], list[str]]:
    """Ranks of all layers under a budget, a share of all weights, where some have their own.

    Layers lose shares of their energy, or what `losing` says for the ranks that they may have. Also the
    layers that stay whole (their ranks are full), and a note where the budget is too small.
    """
    able = [(layer, layer.split) for layer in layers if layer.split is not None]
    free = [(layer, split) for layer, split in able if layer.label not in own]
    fixed = sum(layer.weights for layer in layers if layer.split is None)
    fixed += sum(min(split.weights(own[x.label]), x.weights) for x, split in able if x.label in own)
    total = sum(layer.weights for layer in layers)
    limit = int(budget * total + 1e-6) - fixed
    options = [losing.get(x.label, NOTHING) if losing is not None else split.options for x, split in free]
    found = rank_budget.within([split for _, split in free], limit, options)
    ranks = {layer.label: at or split.full for (layer, split), at in zip(free, found, strict=True)}
    whole = [layer.label for (layer, _), at in zip(free, found, strict=True) if at is None]
    least = sum(rank_budget.fewest(x.weights, each) for (x, _), each in zip(free, options, strict=True))
    share = f"{(least + fixed) / max(total, 1):.1%}"
    short = f"The budget is too small: at the lowest ranks there are {share} of the weights."
    return {**own, **ranks}, whole, [short] * (least > limit)
