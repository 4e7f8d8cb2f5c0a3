"""AdaRound: learn which weights are rounded up and which down, layer by layer, from calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding, training
from engine.net import matching, zoo
from engine.recipe import settings
from engine.recipe.knobs import Slider
from engine.recipe.technique import Cost, technique
from engine.tensor import grids, learned_rounding
from engine.tensor.affine import code_range
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import named
from engine.types import Bundle, Param, Progress, Report, weight_layers

LAYER_COLUMNS = (
    *rounding.COLUMNS[:2],
    *("points", "error_nearest", "error_learned", "other_level"),
    *rounding.COLUMNS[2:],
)
ERRORS = {"error_nearest": "output error, nearest", "error_learned": "output error, learned"}


@technique(
    family="quantize",
    title="Learned rounding",
    reference="Nagel et al. 2020, Up or Down? Adaptive Rounding, arXiv 2004.10568",
    stage=707,
    runs="trains",
    cost=lambda chosen: Cost(1, images=10 * chosen["steps"]),
    locality="model",
    tables={"layers": LAYER_COLUMNS},
    aha="The nearest level is the best for a weight, but not for a layer: errors of weights that are read "
    "together can cancel.",
    trap="It fits the samples that it sees: with few, or with others than will come, errors do not cancel.",
    presets={"gentle": {"bits": 6}, "balanced": {"bits": 4}, "extreme": {"bits": 3, "steps": 2000}},
)
def adaround(
    bundle: Bundle,
    data: Data,
    *,
    bits: Annotated[int, settings.trained_bits("Bits", "Width of a code.")] = 4,
    granularity: Annotated[
        str, settings.one_per("scale", "How many weights share one step size.")
    ] = "channel",
    range: Annotated[
        str,
        settings.fitted_range(
            "Which values the grid spans; it is found first, and rounding is learned on it."
        ),
    ] = "mse",
    steps: Annotated[
        int,
        Slider(
            low=100,
            high=5000,
            step=100,
            whole=True,
            unit="steps",
            label="Steps",
            help="How long the rounding of each layer is learned; a step sees 128 of its points.",
        ),
    ] = 1000,
    samples: Annotated[int, settings.samples("Samples that the layers' inputs are taken from.")] = 500,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    seed: Annotated[
        int, settings.seed("Fixes the places of the samples and the order in which they are seen.")
    ] = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Round each weight up or down so that its layer's outputs change least, learned from some samples.

    Layers go in the order of the model: each sees what the rounded ones before it give, and is to give what
    it gave in floats. Labels are not looked at. Symmetric levels; exact zeros stay exact zeros; biases and
    normalisation stay 32-bit floats. Layers whose outputs are no matrix times their inputs (recurrent,
    grouped, called twice) are rounded to nearest. Raises Cancelled through `progress`.
    """
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    params: dict[str, Param] = dict(bundle.params)
    nearest: dict[str, AffineGrid] = {}
    for label, name in names.items():
        values = bundle.params[name].decode()
        nearest[label] = grids.quantize(values, bits, True, named(granularity, 1), range)
        params[name] = nearest[label]
    images = matching.drawn(data.train, samples, seed)
    goals = matching.goals_of(zoo.fork(bundle).eval(), names, images, matching.PLACES, seed)
    top, said = code_range(bits, True)[1], dict[str, dict[str, Any]]()
    weights = {label: bundle.params[names[label]].decode().flatten(1) for label in goals}
    total = sum(len(weight) * weight.shape[1] for weight in weights.values())

    def new(label: str, rows: Tensor, goal: Tensor) -> Tensor:
        weight, grid = weights[label], nearest[label]
        fitted, scale = len(rows) - len(rows) // matching.CHECKED, grid.scale.expand(len(weight))
        given = (rows[:fitted], goal[:fitted], weight, scale, top)
        done = sum(weights[known].numel() for known in said) / total
        part = progress.part(done, done + weight.numel() / total)
        with torch.enable_grad():
            codes = learned_rounding.learn(*given, steps, seed, part)
        learned_weight, nearest_weight = codes * scale[:, None], grid.decode().flatten(1)
        said[label] = {
            "points": fitted,
            "error_nearest": matching.output_error(rows[fitted:], goal[fitted:], nearest_weight),
            "error_learned": matching.output_error(rows[fitted:], goal[fitted:], learned_weight),
            "other_level": float((codes != grid.codes.flatten(1)).double().mean()),
        }
        params[names[label]] = replace(grid, codes=codes.reshape(grid.codes.shape))
        return learned_weight

    matching.change(zoo.fork(bundle.become(params)).eval(), names, images, goals, new)
    after = bundle.become(params)
    layers = rounding.table(bundle, after, names, said, LAYER_COLUMNS)
    figures = (
        *reports.output_errors(layers, ERRORS, _how),
        *training.change(bundle, after, data.validation),
        *rounding.figures(layers),
    )
    floats = [label for label in names if label not in said]
    notes = [
        f"Learned on {len(images) - len(images) // matching.CHECKED:,} training samples, errors measured on "
        f"{len(images) // matching.CHECKED:,} others.",
        *reports.named("Rounded to nearest:", floats),
        *reports.named("Left out:", leave_out),
    ]
    return after, Report(figures, {"layers": layers}, tuple(notes))


def _how(worst: pd.Series) -> str:
    return (
        f"norm of (outputs - what they were) / norm of what they were, of {worst['layer']}, where rounding "
        "to nearest is worst: on training samples that nothing was learned from"
    )
