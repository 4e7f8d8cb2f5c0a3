"""Number format: weights as bf16, fp16, fp8, NF4, powers of two, or in blocks that share an exponent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import technique
from engine.tensor.formats import Levels
from engine.tensor.number_lines import FREE, tiles_of
from engine.tensor.number_systems import UNSCALED
from engine.types import Bundle, Param, Report, weight_layers

LAYER_COLUMNS = (*rounding.COLUMNS[:2], "bits", "scales", "saturated", *rounding.COLUMNS[2:])


@technique(
    family="quantize",
    title="Number format",
    reference="Micikevicius 2022, FP8 Formats, arXiv 2209.05433; Dettmers 2023, QLoRA, arXiv 2305.14314; "
    "Rouhani 2023, Microscaling Data Formats, arXiv 2310.10537",
    page="formats",
    stage=702,
    runs="instant",
    locality="layer",
    tables={"layers": LAYER_COLUMNS},
    known_by="number",
    presets={
        "gentle": {"number": "bf16"},
        "balanced": {"number": "fp8_e4m3", "granularity": "channel"},
        "extreme": {"number": "mxfp4"},
    },
)
def number_format(
    bundle: Bundle,
    data: Data | None,
    *,
    number: Annotated[
        str,
        Choice(
            label="Format",
            help="Which values a code may stand for.",
            options={
                "bf16": "16 bits: the range of a 32-bit float, 8 bits of precision; no scales",
                "fp16": "16 bits: 11 bits of precision, from 6e-8 to 65,504; no scales",
                "mxint8": "8-bit whole numbers; blocks of 32 share a power of two",
                "fp8_e4m3": "8 bits: 4 of exponent, 3 of mantissa, up to 448 times the scale",
                "fp8_e5m2": "8 bits: 5 of exponent, 2 of mantissa: wider and coarser",
                "logarithmic": "5 bits: a sign and a power of the square root of two, or zero",
                "nf4": "4 bits: quantiles of a normal distribution, dense where weights are",
                "int4": "4 bits: evenly spaced, from -7 to 7 times the scale",
                "mxfp4": "4 bits: 0, 0.5, 1, 1.5, 2, 3, 4 and 6; blocks of 32 share a power of two",
                "power_of_two": "4 bits: a sign and a power of two, or zero: products become shifts",
            },
        ),
    ] = "nf4",
    granularity: Annotated[
        str,
        settings.scale_granularity(
            "How many weights share one scale: 32 bits, or 8 for a power of two.", (("number", FREE),)
        ),
    ] = "group",
    group: Annotated[int, settings.group_size((("number", FREE),))] = 64,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Store each weight as the nearest number of a format, with the scales that the format has.

    Biases and normalisation stay 32-bit floats. Exact zeros stay exact zeros: every format has one. A scale
    fits the largest weight of those that share it; what still lies beyond the largest number goes to it.
    """
    tiles = tiles_of(number, granularity, group)
    params: dict[str, Param] = dict(bundle.params)
    rows = []
    for layer, name in weight_layers(bundle).items():
        if layer not in leave_out:
            values = bundle.params[name].decode()
            params[name] = levels = Levels.of(values, number, tiles)
            rows.append(_row(layer, values, levels))
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS)
    notes = tuple(reports.named("Left out:", leave_out))
    return bundle.become(params), Report(rounding.figures(layers), {"layers": layers}, notes)


def _row(layer: str, values: Tensor, levels: Levels) -> dict[str, Any]:
    system, spread = levels.system, levels.granularity.over(levels.scale, levels.shape)
    beyond = values.abs() > spread * system.top * (1 + 1e-6)  # a scale is rounded to 32 bits, too
    return {
        **rounding.row(layer, values, levels),
        "bits": system.bits,
        "scales": 0 if system.scaling == UNSCALED else levels.scale.numel(),
        "saturated": float(beyond.double().mean()),
    }
