"""What a low-rank step reports: a row for each layer, its figures, and its notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine.figures import reports
from engine.net.low_rank import CHECKED, Layer
from engine.tensor import factors
from engine.tensor.splits import Ranks, Split
from engine.types import Basis, Figure

SOMETIMES = ("input_rank", "output_error_plain", "output_error")  # columns that only some settings fill
ERRORS = {
    "output_error_plain": "output error, for the weights",
    "output_error": "output error, for the outputs",
}
WHOLE = "the budget leaves it whole"
COLUMNS = (
    *("layer", "form", "full_rank", "rank", "input_rank", "break_even", "energy_kept", "error"),
    *("output_error_plain", "output_error", "weights_before", "weights_after", "applied", "why"),
)


def table(layers: Sequence[Layer], ranks: Mapping[str, Ranks], whole: Sequence[str]) -> pd.DataFrame:
    """A row for each layer, at its ranks; those in `whole` stay so because the budget says so."""
    rows = [
        _row(layer, layer.split, ranks[layer.label], layer.label in whole)
        if layer.split is not None
        else _untouched(layer)
        for layer in layers
    ]
    found = pd.DataFrame(rows, columns=COLUMNS)
    return found.drop(columns=[column for column in SOMETIMES if found[column].isna().all()])


def _row(layer: Layer, split: Split, ranks: Ranks, whole: bool) -> dict[str, Any]:
    """Energy and errors are those of the ranks, whether or not they are worth a split; weights are real."""
    after = split.weights(ranks)
    applied = after < layer.weights
    limit = factors.break_even(layer.shape, layer.form) if len(ranks) == 1 else None
    said = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} and {ranks[1]}"
    counts = f"{after:,} weights out of {layer.weights:,}"
    why = f"{said} would make {counts}"
    if applied:
        why = f"{said} make {counts}" if limit is None else f"{said} is below the break-even of {limit:.1f}"
    return {
        "layer": layer.label,
        "form": layer.form,
        "full_rank": split.full[0],
        "rank": ranks[0],
        "input_rank": ranks[1] if len(ranks) > 1 else None,
        "break_even": limit,
        "energy_kept": split.kept(ranks),
        "error": split.error(ranks),
        **layer.output_errors(ranks),
        "weights_before": layer.weights,
        "weights_after": after if applied else layer.weights,
        "applied": applied,
        "why": WHOLE if whole else why,
    }


def _untouched(layer: Layer) -> dict[str, Any]:
    matrix = layer.form if layer.form != "tucker" else "channel"
    full = min(factors.matrix_shape(layer.shape, matrix)) if matrix else None
    has_limit = layer.form not in ("", "tucker")
    return {
        "layer": layer.label,
        "form": layer.form,
        "full_rank": full,
        "rank": None,
        "break_even": factors.break_even(layer.shape, layer.form) if has_limit else None,
        "energy_kept": 1.0,
        "error": 0.0,
        "weights_before": layer.weights,
        "weights_after": layer.weights,
        "applied": False,
        "why": layer.why,
    }


def figures(layers: pd.DataFrame) -> tuple[Figure, ...]:
    """Weights after the step, and the outputs' errors of the layer that the weights' error serves worst."""
    before, after = int(layers["weights_before"].sum()), int(layers["weights_after"].sum())
    how = "elements of all weight matrices after the split"
    kept = after / max(before, 1)
    return (
        Figure("weights", after, "weights", Basis.COUNTED, how),
        Figure("weights kept", kept, "share", Basis.COUNTED, "weights after / weights before"),
        *(reports.output_errors(layers[layers["applied"]], ERRORS, _how) if "output_error" in layers else ()),
    )


def _how(worst: pd.Series) -> str:
    return (
        f"norm of (outputs - what they were) / norm of what they were, of {worst['layer']} at rank "
        f"{worst['rank']:.0f}, where the split for the weights is worst: on training samples that nothing "
        "was read from"
    )


def notes(layers: pd.DataFrame, decoded: Sequence[str]) -> list[str]:
    """Why layers stay as they are, and which lost their codes."""
    rows = zip(layers["layer"], layers["why"], layers["applied"], strict=True)
    stay = {layer: why for layer, why, applied in rows if not applied}
    told = [f"{layer} stays as it is: {why}." for layer, why in stay.items()]
    if len(stay) > 1:
        told = reports.named("These layers stay as they are, for the reasons in their table:", stay)
    after = " are 32-bit floats again: quantize after the split."
    return [*told, *reports.named("The factors of", decoded, after)]


def notes_of_outputs(layers: Sequence[Layer], samples: int) -> list[str]:
    """Which images outputs are from, and of which layers they are not used."""
    checked = samples // CHECKED
    others = [layer.label for layer in layers if layer.split is not None and layer.outputs is None]
    return [
        f"Outputs are those of {samples - checked:,} training samples; their errors are measured on "
        f"{checked:,} others.",
        *reports.named("The error of the weights counts in", others),
    ]
