"""GPTQ: round a layer's weights column by column, and let those not yet rounded make up for each error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.net import matching, zoo
from engine.recipe import settings
from engine.recipe.knobs import Toggle
from engine.recipe.technique import technique
from engine.tensor import gptq as columns
from engine.tensor import grids
from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import named
from engine.types import Basis, Bundle, Figure, Param, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = (
    *rounding.COLUMNS[:2],
    *("points", "error_nearest", "error_gptq", "other_level", "mse_nearest"),
    *rounding.COLUMNS[2:],
)
ERRORS = {"error_nearest": "output error, nearest", "error_gptq": "output error"}


@technique(
    family="quantize",
    title="GPTQ",
    reference="Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization, arXiv 2210.17323",
    stage=707,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS},
    aha="An error that is made can still be made up for: each weight that is rounded moves those behind it, "
    "so that the layer's outputs stay where they were. Nothing is trained.",
    trap="The weights themselves are further off than with the nearest levels: squared error of weights "
    "says nothing here. Look at the outputs, on samples that were not fitted.",
    presets={
        "gentle": {"bits": 6},
        "balanced": {},
        "extreme": {"bits": 3, "granularity": "group", "group": 32},
    },
    needs_model=True,
)
def gptq(
    bundle: Bundle,
    data: Data,
    *,
    bits: Annotated[int, settings.trained_bits("Bits", "Width of a code.")] = 4,
    scheme: settings.Scheme = "symmetric",
    granularity: settings.ScaleGranularity = "channel",
    group: settings.GroupSize = 64,
    range: Annotated[
        str,
        settings.fitted_range(
            "Which values the grid spans; it is found first, and stays while errors are carried on."
        ),
    ] = "mse",
    damping: Annotated[
        float,
        settings.damping(
            "the less is carried from column to column, and the nearer the codes are to the nearest ones"
        ),
    ] = 0.01,
    act_order: Annotated[
        bool,
        Toggle(
            label="Order by activation",
            help="Round the columns first whose inputs are largest, while most others can make up for them.",
        ),
    ] = True,
    samples: Annotated[int, settings.samples("Samples that the layers' inputs are taken from.")] = 500,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    seed: Annotated[
        int, settings.seed("Fixes the places of the samples, and which samples errors are measured on.")
    ] = 0,
) -> tuple[Bundle, Report]:
    """Round weights one column after another; those still to come take up the error, by the inverse Hessian.

    Layers go in the order of the model: each is fitted on what the rounded ones before it give, and is to
    give what its own weights would. Labels are not looked at. Exact zeros stay exact zeros; biases and
    normalisation stay 32-bit floats. Layers whose outputs are no matrix times their inputs (recurrent,
    attention, embedding, grouped, called twice), or that read more than 8,192 numbers, are rounded to
    nearest. Raises SlimscopeError where what enters a layer is not finite.
    """
    symmetric = scheme == "symmetric"
    ends = code_range(bits, symmetric)
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    nearest: dict[str, AffineGrid] = {}
    for label, name in names.items():
        values = bundle.params[name].decode()
        nearest[label] = grids.quantize(values, bits, symmetric, named(granularity, group), range)
    images = matching.drawn(data.train, samples, seed)
    narrow = {x: name for x, name in names.items() if nearest[x].codes.shape[1:].numel() <= matching.WIDEST}
    # Of the goals only the places count: what a layer is to give depends on what then enters it.
    goals = matching.goals_of(zoo.fork(bundle).eval(), narrow, images, matching.PLACES, seed)
    params: dict[str, Param] = dict(bundle.params)
    params |= {name: nearest[label] for label, name in names.items() if label not in goals}
    said = dict[str, dict[str, Any]]()

    def new(label: str, rows: Tensor, _: Tensor) -> Tensor:
        weight, grid = bundle.params[names[label]].decode().flatten(1), nearest[label]
        fitted = len(rows) - len(rows) // matching.CHECKED
        if not bool(rows.isfinite().all()):
            raise SlimscopeError(f"layer {label!r} can't be fitted: what enters it is not finite")
        curved = columns.hessian(rows[:fitted], damping)
        params[names[label]] = made = _carried(weight, grid, ends, curved, act_order)
        others, decoded = rows[fitted:], made.decode().flatten(1)
        goal = others @ weight.T
        said[label] = {
            "points": fitted,
            "error_nearest": matching.output_error(others, goal, grid.decode().flatten(1)),
            "error_gptq": matching.output_error(others, goal, decoded),
            "other_level": float((made.codes != grid.codes).double().mean()),
            "mse_nearest": grids.sum_of_squares(grid.decode().flatten(1) - weight) / weight.numel(),
        }
        return decoded

    matching.change(zoo.fork(bundle.become(params)).eval(), narrow, images, goals, new)
    after = bundle.become(params)
    layers = rounding.table(bundle, after, names, said, LAYER_COLUMNS)
    layers["mse_nearest"] = layers["mse_nearest"].fillna(layers["mse"])  # what was rounded to nearest
    checked, plain = len(images) // matching.CHECKED, [label for label in names if label not in said]
    notes = (
        f"Fitted on {len(images) - checked:,} training samples, errors measured on {checked:,} others.",
        *reports.named("Rounded to nearest:", plain),
        *reports.named("Left out:", leave_out),
    )
    mean_bits, off = rounding.figures(layers)
    outputs = reports.output_errors(layers, ERRORS, _how)
    figures = (*outputs, *([_off_nearest(layers)] if outputs else []), off, mean_bits)
    return after, Report(figures, {"layers": layers}, notes)


def _carried(
    weight: Tensor, nearest: AffineGrid, ends: tuple[int, int], hessian: Tensor, ordered: bool
) -> AffineGrid:
    """The grid with GPTQ's codes of this weight: (outputs, inputs)."""
    shape = nearest.shape
    scale, zero = (nearest.granularity.over(x, shape).flatten(1) for x in (nearest.scale, nearest.zero))
    codes = columns.rounded(weight, scale, zero, ends, hessian, ordered)
    return replace(nearest, codes=codes.reshape(shape))


def _how(worst: pd.Series) -> str:
    return (
        f"norm of (outputs - those before rounding) / norm of these, same inputs, of {worst['layer']}, where "
        "rounding to nearest is worst: on training samples that were not fitted"
    )


def _off_nearest(layers: pd.DataFrame) -> Figure:
    """What nearest levels would cost the weights."""
    weights = layers["weights"]
    return Figure(
        "mean squared error, nearest",
        float((layers["mse_nearest"] * weights).sum()) / max(int(weights.sum()), 1),
        "squared weight",
        Basis.COUNTED,
        "mean of (w - its nearest level)^2 over the weights of this step's layers",
    )
