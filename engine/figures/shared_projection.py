"""What a shared projection reports: a row for each matrix of the model, and why some stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from engine.net.projecting import Recurrent
from engine.tensor import projection
from engine.types import Bundle, weight_layers

COLUMNS = (
    *("layer", "projection", "rank", "energy_kept", "error"),
    *("weights_before", "weights_after", "applied", "why"),
)


def reasons(
    layers: Sequence[Recurrent], ranks: Mapping[str, int], unfit: Mapping[str, str]
) -> dict[str, str]:
    """Why some of the model's recurrent layers have no projection."""
    grown = {
        layer.label: f"rank {rank} would make {layer.weights_at(rank):,} weights out of {layer.weights:,}"
        for layer in layers
        if not layer.saves(rank := ranks[layer.label])
    }
    return {**{label: f"which {why}" for label, why in unfit.items()}, **grown}


def table(
    bundle: Bundle, layers: Sequence[Recurrent], ranks: Mapping[str, int], unfit: Mapping[str, str]
) -> pd.DataFrame:
    """Every matrix, so that columns add up to the net's; a projection counts with the recurrent one."""
    stay = reasons(layers, ranks, unfit)
    rows = {name: _untouched(label, bundle, name, unfit) for label, name in weight_layers(bundle).items()}
    labels = {name: label for label, name in weight_layers(bundle).items()}
    for layer in layers:
        for level in layer.levels:
            p = level.joint.projection(ranks[layer.label])
            for number, (name, matrix) in enumerate(zip(level.names, level.joint.matrices, strict=True)):
                own = p.numel() if number == 0 else 0
                rows[name] = _row(labels[name], level.projection, matrix, p, own, stay.get(layer.label, ""))
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


def _row(label: str, name: str, matrix: Tensor, p: Tensor, own: int, stays: str) -> dict[str, Any]:
    kept = projection.kept(matrix, p)
    after = len(matrix) * len(p) + own
    return {
        "layer": label,
        "projection": name,
        "rank": len(p),
        "energy_kept": kept,
        "error": max(1 - kept, 0.0) ** 0.5,
        "weights_before": matrix.numel(),
        "weights_after": matrix.numel() if stays else after,
        "applied": not stays,
        "why": stays or ("it makes the states" if own else "it reads them"),
    }


def _untouched(label: str, bundle: Bundle, name: str, unfit: Mapping[str, str]) -> dict[str, Any]:
    module = name.rpartition(".")[0]
    weights = bundle.params[name].decode().numel()
    return {
        **dict.fromkeys(COLUMNS),
        "layer": label,
        "energy_kept": 1.0,
        "error": 0.0,
        "weights_before": weights,
        "weights_after": weights,
        "applied": False,
        "why": f"{module} {unfit[module]}" if module in unfit else "it reads no states that are summed up",
    }
