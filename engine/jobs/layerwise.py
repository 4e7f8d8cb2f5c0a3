"""A net too large to be compressed whole on every move of a slider, seen one layer at a time.

What is done to the layer is what would be done to it in the whole net: where the weights of all
layers compete, the threshold comes from an index of all of them. Of a layer with more than
SHOWN weights some whole rows stand for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from engine.figures import count
from engine.recipe import technique
from engine.recipe.technique import Layers, PerLayer
from engine.tensor.formats import Dense
from engine.tensor.histogram import index_of
from engine.tensor.index import Index
from engine.types import Arch, Bundle, Report, SlimscopeError, Step, weight_layers

LARGE = 1 << 21  # weights; compressing more of them whole takes longer than an eye waits
SHOWN = 1 << 20  # weights of a layer that are looked at
WHOLE = ("low_rank",)  # some rows of a matrix have other singular values than all

NO_CUT = np.zeros(0, np.float32)
ONLY_FIRST = (
    "all the layers of a net this large can only be ranked by the first step of a recipe: "
    "choose one threshold, or move the step to the front"
)

BY_SIZE_ONLY = (
    "a net this large is pruned by size, weight by weight, with the same share of each layer or one ranking "
    "over all: choose score magnitude, shape element, and scope layer or model"
)

Pool = Callable[[tuple[str, ...]], Index]  # the index of these layers together, as they enter the step


def is_large(bundle: Bundle) -> bool:
    """Whether the net has more weights than are compressed whole on every move."""
    return sum(weight.numel() for _, weight in count.weights(bundle)) > LARGE


def of_layer(bundle: Bundle, layer: str, most: int | None = SHOWN) -> Bundle:
    """One layer by itself with its bias; or, with `most`, at most about so many of its weights in whole rows.

    The rows are evenly spaced, and those with the largest and the smallest weight are among them.

    >>> weight = torch.arange(12.0).reshape(6, 2)
    >>> net = Bundle(Arch("bare"), {"a.weight": Dense(weight), "b.weight": Dense(weight)})
    >>> of_layer(net, "a", 6).params["a.weight"].decode()[:, 0].tolist()
    [0.0, 4.0, 8.0, 10.0]
    """
    name = weight_layers(bundle)[layer]
    weight = bundle.params[name].decode()
    if most is not None and weight.numel() > most:
        return Bundle(Arch("bare"), {name: Dense(weight[_rows(weight, most)])})
    return Bundle(Arch("bare"), {own: bundle.params[own] for own in tensors_of(bundle, layer)})


def tensors_of(bundle: Bundle, layer: str) -> list[str]:
    """The names of a layer's weight and of what goes with it (its bias), in the net's order."""
    weight = weight_layers(bundle)[layer]
    return [
        name
        for name, param in bundle.params.items()
        if name == weight or (name.startswith(f"{layer}.") and len(param.shape) < 2)
    ]


def _rows(weight: Tensor, most: int) -> Tensor:
    matrix = weight.flatten(1)
    step = -(-weight.numel() // most)
    ends = [int(end) // matrix.shape[1] for end in (matrix.argmax(), matrix.argmin())]
    return torch.tensor(sorted({*range(0, len(matrix), step), *ends}))


def apply(bundle: Bundle, step: Step, labels: Sequence[str], pool: Pool) -> tuple[Bundle, Report]:
    """A step on layers by themselves, as it acts on them in their net, whose layers are `labels`.

    Raises SlimscopeError where the step must run the net, or `pool` has no index of all layers.
    """
    known = technique.get(step.technique)
    if known.needs_net or known.trains:
        raise SlimscopeError(f"{known.title} must run the net: it needs a known architecture with data")
    mine = list(weight_layers(bundle))
    settings = dict(known.check(step.settings))
    if step.technique == "prune_weights":
        settings = _pruned_by_value(settings, mine, labels, pool)
    for name, knob in known.knobs.items():
        if isinstance(knob, Layers):
            settings[name] = tuple(layer for layer in settings[name] if layer in mine)
        elif isinstance(knob, PerLayer):
            settings[name] = {layer: value for layer, value in settings[name].items() if layer in mine}
    after, report = known.function(bundle, None, **settings)
    return replace(after, lineage=bundle.lineage.then(step)), replace(report, step=step)


def _pruned_by_value(
    settings: dict[str, Any], mine: list[str], labels: Sequence[str], pool: Pool
) -> dict[str, Any]:
    """The same pruning by a threshold, taken from all the weights that compete."""
    if not by_threshold(settings):
        raise SlimscopeError(BY_SIZE_ONLY)
    layer = mine[0]
    if settings["by"] == "threshold" or layer in settings["leave_out"]:
        return settings
    return {**settings, "by": "threshold", "threshold": cut(settings, layer, labels, pool), "per_layer": {}}


def by_threshold(settings: Mapping[str, Any]) -> bool:
    """Whether a pruning removes what is not above a threshold, which an index of the weights can find."""
    return by_size(settings) and (settings["by"] != "sparsity" or settings["scope"] != "erk")


def by_size(settings: Mapping[str, Any]) -> bool:
    """Whether a pruning removes the weights of a layer that are smallest, each by itself."""
    return settings["by"] != "sparsity" or (settings["score"], settings["shape"]) == ("magnitude", "element")


def cut(settings: dict[str, Any], layer: str, labels: Sequence[str], pool: Pool) -> float:
    """The largest magnitude that pruning with these settings may remove from a layer."""
    if settings["by"] == "threshold":
        return float(settings["threshold"])
    if settings["by"] == "quality":
        return float(settings["quality"]) * deviation(pool((layer,)))
    own, apart = settings["per_layer"], (*settings["leave_out"], *settings["per_layer"])
    if layer in own or settings["scope"] == "layer":
        return pool((layer,)).threshold_for(own.get(layer, settings["sparsity"]))
    return pool(tuple(x for x in labels if x not in apart)).threshold_for(settings["sparsity"])


def alone(bundle: Bundle) -> Pool:
    """The index of the layer in hand, where it is not the net's first step: others are not at hand then."""

    def pool(layers: tuple[str, ...]) -> Index:
        if len(layers) > 1:
            raise SlimscopeError(ONLY_FIRST)
        return index_of([weight for _, weight in count.weights(bundle)])

    return pool


def deviation(index: Index) -> float:
    """Standard deviation of the indexed values, the population's."""
    mean = float(index.split(NO_CUT).sums[0]) / len(index)
    return math.sqrt(max(sum_of_squares(index) / len(index) - mean**2, 0.0))


def sum_of_squares(index: Index) -> float:
    """Of all indexed values."""
    return float(index.split(NO_CUT).squares[0])


def removals(settings: dict[str, Any], labels: Sequence[str], pool: Pool) -> pd.DataFrame:
    """What pruning removes from every layer, from indexes alone: a row per layer that is not left out.

    Columns layer, weights, kept, removed, sparsity, threshold, energy_kept, and `within`: the true
    share removed lies at most that far from `sparsity`.
    """
    rows, limits = [], {}
    everywhere = settings["by"] == "sparsity" and settings["scope"] == "model"
    for layer in (label for label in labels if label not in settings["leave_out"]):
        index, total = pool((layer,)), sum_of_squares(pool((layer,)))
        whose = "" if everywhere and layer not in settings["per_layer"] else layer
        if whose not in limits:
            limits[whose] = cut(settings, layer, labels, pool)
        limit = limits[whose]
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
                "within": index.within(limit)[0] / len(index),
            }
        )
    return pd.DataFrame(rows)
