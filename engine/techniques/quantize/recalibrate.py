"""Recalibrate: bring the averages of a compressed model's layers back: biases, and batch-norm statistics."""

from __future__ import annotations

import math
from typing import Annotated

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports
from engine.net import averages, taps
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import technique
from engine.types import Basis, Bundle, Figure, Report

COLUMNS = ("layer", "outputs", "corrected", "shift_before", "shift_after")
CHECKED = 100  # validation images that shifts are measured on


@technique(
    family="quantize",
    title="Recalibrate",
    reference="Nagel et al. 2019, Data-Free Quantization, arXiv 1906.04721, section 4.2; "
    "Finkelstein et al. 2019, Fighting Quantization Bias with Bias, arXiv 1906.03193",
    stage=728,
    runs="seconds",
    locality="model",
    tables={"layers": COLUMNS},
    aha="Rounding and pruning move the mean of a layer's outputs, and a mean is the cheapest thing to put "
    "back: hardly a byte more, nothing trained.",
    trap="Only averages come back: single outputs stay wrong, and where spreads changed, means alone can do "
    "harm. Look at the accuracy.",
    presets={"gentle": {"what": "bias"}, "balanced": {}, "extreme": {"samples": 500}},
    needs_model=True,
    mends=True,
)
def recalibrate(
    bundle: Bundle,
    data: Data,
    *,
    what: Annotated[
        str,
        Choice(
            label="What",
            help="Which numbers beside the weights are set anew.",
            options={
                "both": "batch-norm statistics, and biases of layers without batch-norm behind them",
                "bias": "biases: each output's mean becomes the original model's; batch-norm's mean takes "
                "the difference where there is no bias",
                "batch_norm": "batch-norm's means and variances, as layers of the compressed model give them",
            },
        ),
    ] = "both",
    samples: Annotated[
        int,
        Slider(
            low=50,
            high=500,
            step=50,
            whole=True,
            unit="training samples",
            label="Samples",
            help="On how many samples averages are taken; all of them pass the model at once.",
        ),
    ] = 250,
) -> tuple[Bundle, Report]:
    """Sets biases and batch-norm statistics anew after weights were rounded or removed; nothing is trained.

    Averages are taken on training samples, layer after layer, each with those before it corrected. A bias
    takes up what the mean of its output is off from that of the uncompressed model. Layers whose number of
    outputs changed, recurrent ones, and those that a model calls twice keep their biases. Shifts are measured
    on validation samples. Labels are not looked at.
    """
    images = data.train.stratified(samples).inputs()
    behind = taps.normal_behind(bundle.arch)
    after, norms = averages.normal_again(bundle, images) if what != "bias" else (bundle, [])
    places = {layer: averages.STATISTICS for layer, normal in behind.items() if normal in norms}
    if what != "batch_norm":
        wanted = averages.means_of(bundle.origin, images)
        for layer in places:  # its batch-norm subtracts the mean that there is now
            wanted.pop(layer, None)
        after, found = averages.corrected(after, images, wanted, behind)
        places |= found
    layers = _layers(bundle, after, places, behind, data.validation.stratified(CHECKED).inputs())
    left = [layer for layer in layers["layer"] if layer not in places]
    notes = (
        f"Averages of {len(images):,} training samples.",
        *reports.named("These layers keep what they had:", left),
        *(
            ["The model has no batch-norm, so nothing is set anew."]
            if what == "batch_norm" and not norms
            else []
        ),
    )
    return after, Report(_figures(layers), {"layers": layers}, notes)


def _layers(
    before: Bundle, after: Bundle, places: dict[str, str], behind: dict[str, str], images: Tensor
) -> pd.DataFrame:
    """How far means of outputs, behind batch-norm, are from the original's: on other samples than used."""
    kinds = (*averages.LAYERS, *averages.NORMS)
    wanted, old, new = (averages.means_of(each, images, kinds) for each in (before.origin, before, after))
    rows = []
    for layer in (name for name in old if name not in behind.values()):
        seen = behind.get(layer, layer)
        shifts = [math.nan, math.nan]
        if seen in wanted and wanted[seen].shape == old[seen].shape:
            shifts = [averages.shift_of(means[seen], wanted[seen]) for means in (old, new)]
        rows.append((layer, len(old[layer]), places.get(layer, "nothing"), *shifts))
    return pd.DataFrame(rows, columns=COLUMNS)


def _figures(layers: pd.DataFrame) -> tuple[Figure, ...]:
    how = (
        "norm of (mean outputs - the original's) over the norm of these, of the layer where it is largest, "
        "behind its batch-norm: on validation samples"
    )
    corrected = int((layers["corrected"] != "nothing").sum())
    figures = [Figure("corrected layers", corrected, "layers", Basis.COUNTED, "layers that were set anew")]
    if layers["shift_before"].notna().any():
        for name, column in (
            ("largest shift before", "shift_before"),
            ("largest shift after", "shift_after"),
        ):
            figures.append(Figure(name, float(layers[column].max()), "share", Basis.MEASURED, how))
    return tuple(figures)
