"""Prune weights: set the smallest weights to exactly zero, by count, by value or by spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine import masks
from engine.data import Data
from engine.surgery import weight_layers
from engine.technique import Choice, Layers, PerLayer, Slider, technique
from engine.types import Basis, Bundle, Figure, Report

SPARSITY = Slider(
    low=0.0,
    high=0.999,
    scale="fine",
    unit="share of weights removed",
    label="Sparsity",
    help="How many of the weights become zero: 0.9 removes nine out of ten, the smallest first.",
    when=(("by", ("sparsity",)),),
)
NO_OVERRIDE: Mapping[str, float] = MappingProxyType({})
COLUMNS = ("layer", "weights", "kept", "removed", "sparsity", "threshold", "energy_kept")


@technique(
    family="prune",
    title="Prune weights",
    reference="Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626",
    page="prune",
    pictures=("histogram", "sparsity_map", "layer_sparsity"),
    presets={
        "gentle": {"sparsity": 0.5},
        "balanced": {"sparsity": 0.9},
        "extreme": {"sparsity": 0.98},
    },
)
def prune_weights(
    bundle: Bundle,
    data: Data | None,
    *,
    by: Annotated[
        str,
        Choice(
            label="Remove by",
            help="What decides whether a weight is small enough to go.",
            options={
                "sparsity": "a share of the weights, the smallest first",
                "threshold": "every weight whose size is at most a value",
                "quality": "Han's rule: a multiple of the layer's standard deviation",
            },
        ),
    ] = "sparsity",
    sparsity: Annotated[float, SPARSITY] = 0.9,
    scope: Annotated[
        str,
        Choice(
            label="Scope",
            help="Where weights compete for survival: inside their layer, or all against all.",
            options={
                "layer": "every layer loses the same share",
                "model": "one ranking over all layers: layers of small weights lose more",
            },
            when=(("by", ("sparsity",)),),
        ),
    ] = "model",
    threshold: Annotated[
        float,
        Slider(
            low=1e-5,
            high=1.0,
            scale="log",
            unit="absolute weight",
            label="Threshold",
            help="Weights of this size or smaller become zero.",
            when=(("by", ("threshold",)),),
        ),
    ] = 0.02,
    quality: Annotated[
        float,
        Slider(
            low=0.0,
            high=4.0,
            step=0.05,
            unit="standard deviations",
            label="Quality",
            help="The threshold of each layer in units of the standard deviation of its weights.",
            when=(("by", ("quality",)),),
        ),
    ] = 1.0,
    per_layer: Annotated[
        Mapping[str, float],
        PerLayer(
            knob=SPARSITY,
            unit="share of weights removed",
            label="Own sparsity",
            help="Layers with a sparsity of their own; they take no part in the ranking of the others.",
            when=(("by", ("sparsity",)),),
        ),
    ] = NO_OVERRIDE,
    leave_out: Annotated[
        Sequence[str],
        Layers(unit="layers", label="Leave out", help="Layers that are not touched."),
    ] = (),
) -> tuple[Bundle, Report]:
    """Set the weights of smallest magnitude to exactly zero.

    Biases and normalisation stay. Weights that are zero already count as removed and are never
    revived. Quantized and shared weights keep their codes and scales. Nothing is trained: a
    fine-tuning step usually wins back most of the accuracy.
    """
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    match by:
        case "threshold":
            kept = {label: masks.by_threshold(w, threshold) for label, w in values.items()}
        case "quality":
            kept = {label: masks.by_quality(w, quality) for label, w in values.items()}
        case _:
            kept = _by_sparsity(values, sparsity, scope, per_layer)
    changed = {names[label]: masks.remove(bundle.params[names[label]], mask) for label, mask in kept.items()}
    table = pd.DataFrame([_row(label, values[label], kept[label]) for label in names], columns=COLUMNS)
    after = bundle.become({**bundle.params, **changed})
    return after, Report(_figures(table), {"layers": table}, _notes(table, leave_out))


def _by_sparsity(
    values: Mapping[str, Tensor], sparsity: float, scope: str, per_layer: Mapping[str, float]
) -> dict[str, Tensor]:
    own = {label: per_layer[label] for label in values if label in per_layer}
    rest = [label for label in values if label not in own]
    if scope == "layer":
        own |= dict.fromkeys(rest, sparsity)
        rest = []
    ranked = masks.by_sparsity_over([values[label] for label in rest], sparsity)
    kept = {label: masks.by_sparsity(values[label], share) for label, share in own.items()}
    return kept | dict(zip(rest, ranked, strict=True))


def _row(label: str, values: Tensor, kept: Tensor) -> dict[str, Any]:
    """`threshold` is the largest magnitude that was removed: 0 where only zeros were."""
    weights, survivors = kept.numel(), int(kept.count_nonzero())
    return {
        "layer": label,
        "weights": weights,
        "kept": survivors,
        "removed": weights - survivors,
        "sparsity": (weights - survivors) / weights,
        "threshold": max(abs(float(end)) for end in values.masked_fill(kept, 0.0).aminmax()),
        "energy_kept": masks.energy_kept(values, kept),
    }


def _figures(table: pd.DataFrame) -> tuple[Figure, ...]:
    weights, removed = int(table["weights"].sum()), int(table["removed"].sum())
    how = "zeros / weights of the layers that this step may touch; biases left out"
    return (
        Figure("weights removed", removed, "weights", Basis.COUNTED, "zeros after this step, in its layers"),
        Figure("sparsity of the pruned layers", removed / max(weights, 1), "share", Basis.COUNTED, how),
    )


def _notes(table: pd.DataFrame, leave_out: Sequence[str]) -> tuple[str, ...]:
    notes = []
    empty = table.loc[table["kept"] == 0, "layer"].tolist()
    if empty:
        notes.append(f"No weight is left in {', '.join(empty)}: nothing but biases passes this layer.")
    if leave_out:
        notes.append(f"Left out: {', '.join(leave_out)}.")
    return tuple(notes)
