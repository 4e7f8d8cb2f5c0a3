"""Ternarize: each weight is -a, 0 or a, with one a for a layer or for each of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import pandas as pd

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import technique
from engine.tensor.granularity import named
from engine.tensor.ternary import ternarize as ternary
from engine.types import Basis, Bundle, Figure, Param, Report, weight_layers

LAYER_COLUMNS = (*rounding.COLUMNS[:2], "zeros", "threshold", "scale", *rounding.COLUMNS[2:])


@technique(
    family="quantize",
    title="Ternarize",
    reference="Li et al. 2016, Ternary Weight Networks, arXiv 1605.04711",
    stage=704,
    runs="instant",
    locality="layer",
    tables={"layers": LAYER_COLUMNS},
    aha="Three values are nearly enough: with zero among them, the small weights need no level, and the "
    "two others can stand where the large ones are.",
    trap="Without training the model loses most of its accuracy: published ternary nets train with these "
    "values from the start. And three symbols take 1.58 bits at least, not 1.",
    presets={
        "gentle": {"granularity": "channel"},
        "balanced": {},
        "extreme": {"granularity": "tensor", "threshold": "rule"},
    },
)
def ternarize(
    bundle: Bundle,
    data: Data | None,
    *,
    granularity: Annotated[
        str, settings.one_per("scale", "How many weights share a threshold and a scale of 32 bits.")
    ] = "channel",
    threshold: Annotated[
        str,
        Choice(
            label="Threshold",
            help="Up to which magnitude a weight becomes zero.",
            options={
                "exact": "the one of least squared error, of all that there are",
                "rule": "0.7 of the mean magnitude: the paper's rule, right for normal weights",
            },
        ),
    ] = "exact",
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Keep only the sign of large weights, and zero for small ones, with one scale for all that stay.

    The scale is the mean magnitude of what stays, which is that of least squared error. Biases and
    normalisation stay 32-bit floats. Nothing is trained.
    """
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for layer, name in weight_layers(bundle).items():
        if layer not in leave_out:
            values = bundle.params[name].decode()
            levels, border = ternary(values, named(granularity, 1), threshold == "exact")
            params[name] = levels
            said = rounding.row(layer, values, levels)
            zeros = int((levels.codes == 0).sum())
            means = {"threshold": float(border.mean()), "scale": float(levels.scale.mean())}
            rows.append({**said, "zeros": zeros, **means})
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS)
    notes = tuple(reports.named("Left out:", leave_out))
    return bundle.become(params), Report(
        (*rounding.figures(layers), _zeros(layers)), {"layers": layers}, notes
    )


def _zeros(layers: pd.DataFrame) -> Figure:
    share = int(layers["zeros"].sum()) / max(int(layers["weights"].sum()), 1)
    return Figure("zeros", share, "share", Basis.COUNTED, "codes 0 / weights of this step's layers")
