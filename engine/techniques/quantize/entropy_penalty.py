"""Rate-aware rounding: each weight gets the code whose error and bits in the file cost least together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.net import curvature
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import technique
from engine.tensor import grids
from engine.tensor.codes.context import priced
from engine.tensor.formats import AffineGrid
from engine.tensor.formats.numbers import numbers, row_length
from engine.tensor.granularity import named
from engine.types import Basis, Bundle, Figure, Param, Report, SlimscopeError, weight_layers

DAMPING = 0.01  # of the mean curvature, for weights that the samples say nothing of
LAYER_COLUMNS = (*rounding.COLUMNS[:2], "moved", "zeros", "coded_bits", *rounding.COLUMNS[2:])


@technique(
    family="quantize",
    title="Rate-aware rounding",
    reference="Wiedemann et al. 2020, DeepCABAC, arXiv 1907.11900",
    stage=709,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS},
    aha="The file spends 1 bit on a weight that it expects and 8 on one that surprises it. Where the loss "
    "hardly notices, the expected value is the better one.",
    trap="Much of what it saves is pruning by another name: look at the zeros. And curvature, which knows "
    "what the loss notices near by, guides no better than plain squared error once many weights move.",
    presets={"gentle": {"penalty": 0.2}, "balanced": {}, "extreme": {"penalty": 2.0}},
    known_by="penalty",
)
def entropy_penalty(
    bundle: Bundle,
    data: Data | None,
    *,
    penalty: Annotated[
        float,
        Slider(
            low=0.0,
            high=4.0,
            scale="log",
            unit="squared steps a bit",
            label="Penalty",
            help="What one bit may cost: an error of so many squared steps of the grid. At 0 each weight "
            "gets its nearest value.",
        ),
    ] = 0.5,
    bits: Annotated[
        int,
        Slider(
            low=2,
            high=8,
            whole=True,
            unit="bits",
            label="Bits",
            help="Width of a code: how fine the grid is.",
        ),
    ] = 5,
    granularity: Annotated[
        str, settings.one_per("scale", "How many weights share one step size of 32 bits.")
    ] = "channel",
    importance: Annotated[
        str,
        Choice(
            label="Importance",
            help="What an error in a weight counts.",
            options={
                "equal": "the same in all weights, in steps of its grid",
                "curvature": "as much as the loss notices it: by the diagonal of the Gauss-Newton matrix, "
                "1 in a weight of average curvature",
            },
        ),
    ] = "equal",
    samples: Annotated[
        int,
        settings.samples(
            "On how many training samples curvature is taken.", when=(("importance", ("curvature",)),)
        ),
    ] = 500,
    seed: Annotated[
        int, settings.seed("Fixes the training samples.", when=(("importance", ("curvature",)),))
    ] = 0,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    grid: Annotated[str, settings.grid_of("of so many bits, to the largest weight")] = "new",
) -> tuple[Bundle, Report]:
    """Round each weight where its error and the bits that the file spends on it cost least together.

    Of the nearest code, the one before it and zero, it gets the q of least F (w - q)^2 + penalty * bits(q).
    Weights w are in steps of the grid. F is 1, or the curvature of the loss at a weight times its squared
    step, over the mean of that; bits(q) is what the file's context coder would spend on q after all codes
    before it. With grid = 'own', weights that lie on a grid keep their step sizes, and codes alone move.
    Exact zeros stay exact zeros. Biases and normalisation stay 32-bit floats. Nothing is trained. Raises
    SlimscopeError where curvature is asked for of a model that can't run.
    """
    names = {layer: name for layer, name in weight_layers(bundle).items() if layer not in leave_out}
    values = {layer: bundle.params[name].decode() for layer, name in names.items()}
    nearest = {x: grids.quantize(w, bits, True, named(granularity, 1)) for x, w in values.items()}
    if grid == "own":
        nearest |= {x: own for x, name in names.items() if isinstance(own := bundle.params[name], AffineGrid)}
    curves = _curvature(bundle, data, names, samples, seed) if importance == "curvature" else None
    worths = _worths(nearest, curves)
    params, said = dict[str, Param](bundle.params), dict[str, Mapping[str, Any]]()
    for layer, name in names.items():
        params[name], said[layer] = _priced(values[layer], nearest[layer], worths[layer], penalty)
    after = bundle.become(params)
    layers = rounding.table(bundle, after, names, said, LAYER_COLUMNS)
    notes = (
        *reports.named("Left out:", leave_out),
        *reports.emptied(layers.assign(kept=layers["weights"] - layers["zeros"])),
    )
    return after, Report((*rounding.figures(layers), *_figures(layers)), {"layers": layers}, notes)


def _curvature(
    bundle: Bundle, data: Data | None, names: Mapping[str, str], samples: int, seed: int
) -> dict[str, Tensor]:
    """Layer -> curvature of the loss at each weight, none of them quite zero."""
    if data is None or not bundle.arch.runs:
        raise SlimscopeError(
            "curvature is known only where a model runs: it needs a known architecture with data; "
            "choose importance = 'equal'"
        )
    known = curvature.diagonal_of(bundle, data.train, samples, seed)
    return {layer: known[name] + DAMPING * known[name].mean() for layer, name in names.items()}


def _worths(grid: Mapping[str, AffineGrid], curves: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """What a squared step of error costs in each weight: curvature times that step, over the mean of all."""
    if curves is None:
        return {layer: torch.ones(one.shape) for layer, one in grid.items()}
    costs = {
        layer: curves[layer] * one.granularity.over(one.scale, one.shape).square()
        for layer, one in grid.items()
    }
    total = sum(float(cost.double().sum()) for cost in costs.values())
    mean = total / max(sum(cost.numel() for cost in costs.values()), 1)
    return {layer: cost / mean if mean > 0 else torch.ones_like(cost) for layer, cost in costs.items()}


def _priced(
    values: Tensor, nearest: AffineGrid, worth: Tensor, penalty: float
) -> tuple[AffineGrid, dict[str, Any]]:
    """A weight on its grid with the cheapest codes, and what the report says of it."""
    zero = nearest.granularity.over(nearest.zero, nearest.shape).to(torch.int32)
    before, columns = numbers(nearest.codes - zero), row_length(nearest.shape)
    ratios = values / nearest.granularity.over(nearest.scale, nearest.shape)
    flat = [each.contiguous().view(-1).numpy() for each in (ratios, worth.to(torch.float32))]
    codes, bits = priced(before, columns, flat[0], flat[1], penalty)
    grid = replace(nearest, codes=torch.from_numpy(codes).view(nearest.shape) + zero)
    moved, zeros = float((codes != before).mean()), int((codes == 0).sum())
    return grid, {"moved": moved, "zeros": zeros, "coded_bits": bits}


def _figures(layers: pd.DataFrame) -> tuple[Figure, Figure]:
    weights = max(int(layers["weights"].sum()), 1)
    moved = float((layers["moved"] * layers["weights"]).sum()) / weights
    return (
        Figure(
            "moved", moved, "share", Basis.COUNTED, "weights that are not at their nearest code / weights"
        ),
        Figure(
            "coded bits per weight",
            float(layers["coded_bits"].sum()) / weights,
            "bits",
            Basis.COUNTED,
            "what the context coder takes for the codes / weights of this step's layers; the file takes the "
            "shortest of all coders",
        ),
    )
