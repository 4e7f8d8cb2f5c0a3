"""Binarize: each weight is -a or a, with one a for a layer or for each of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import pandas as pd

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.recipe import settings
from engine.recipe.technique import technique
from engine.tensor import grids
from engine.tensor.granularity import named
from engine.types import Bundle, Param, Report, weight_layers

LAYER_COLUMNS = (*rounding.COLUMNS[:2], "zeros", "scale", *rounding.COLUMNS[2:])


@technique(
    family="quantize",
    title="Binarize",
    reference="Rastegari et al. 2016, XNOR-Net, arXiv 1603.05279, section 3.1",
    stage=706,
    runs="instant",
    locality="layer",
    tables={"layers": LAYER_COLUMNS},
    aha="The best scale for signs is the mean size of the weights; all that is left of a weight is the "
    "side of zero that it is on.",
    trap="Signs are like coins: no coder makes them smaller than 1 bit, so a file of 2-bit weights that "
    "are mostly zero can be smaller. And without training, few layers bear it.",
    presets={
        "gentle": {"granularity": "channel"},
        "balanced": {},
        "extreme": {"granularity": "tensor"},
    },
)
def binarize(
    bundle: Bundle,
    data: Data | None,
    *,
    granularity: Annotated[
        str, settings.one_per("scale", "How many weights share a scale of 32 bits.")
    ] = "channel",
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Keep only the sign of each weight, times the mean magnitude of those that share a scale.

    That mean is the scale of least squared error. Exact zeros stay exact zeros, so a pruned layer has three
    values and needs more than one bit. Biases and normalisation stay 32-bit floats. Nothing is trained.
    """
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for layer, name in weight_layers(bundle).items():
        if layer not in leave_out:
            values = bundle.params[name].decode()
            params[name] = grid = grids.quantize(values, 1, True, named(granularity, 1))
            said = rounding.row(layer, values, grid)
            zeros = int((grid.codes == 0).sum())
            rows.append({**said, "zeros": zeros, "scale": float(grid.scale.mean())})
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS)
    masked = layers.loc[layers["zeros"] > 0, "layer"]
    notes = [
        *reports.named("Exact zeros are a third value in", masked),
        *reports.named("Left out:", leave_out),
    ]
    return bundle.become(params), Report(rounding.figures(layers), {"layers": layers}, tuple(notes))
