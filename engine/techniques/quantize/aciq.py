"""Analytic clipping: clips from a formula, bits for each output by its spread, and corrected means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider, Toggle
from engine.recipe.technique import technique
from engine.tensor import analytic_clip
from engine.tensor.formats import Rows
from engine.types import Bundle, Param, Report, weight_layers

LEAST, MOST = 2, 8  # bits of a row
LAYER_COLUMNS = (
    *rounding.COLUMNS[:2],
    *("least_bits", "most_bits", "normal_rows", "clipped"),
    *rounding.COLUMNS[2:],
)


@technique(
    family="quantize",
    title="Analytic clipping",
    reference="Banner et al. 2019, Post-training 4-bit quantization, arXiv 1810.05723",
    stage=708,
    runs="instant",
    locality="layer",
    tables={"layers": LAYER_COLUMNS},
    aha="A few outliers cost all other weights their precision: a clip from a formula loses them and "
    "makes every step smaller.",
    trap="The formula trusts a distribution: where weights are not like it, the clip is wrong. And less "
    "squared error is not always more accuracy.",
    presets={"gentle": {"bits": 6}, "balanced": {"bits": 4}, "extreme": {"bits": 3}},
)
def aciq(
    bundle: Bundle,
    data: Data | None,
    *,
    bits: Annotated[
        int,
        Slider(
            low=LEAST,
            high=MOST,
            whole=True,
            unit="bits",
            label="Bits",
            help="Width of a code, on average over the outputs of a layer.",
        ),
    ] = 4,
    distribution: Annotated[
        str,
        Choice(
            label="Distribution",
            help="What form the weights of an output are taken to have; the clip follows from it.",
            options={
                "laplace": "long tails: clipped at 5.0 times the mean magnitude, in 4 bits",
                "normal": "short tails: clipped at 2.6 standard deviations, in 4 bits",
                "likelier": "for each output the one under which its weights are likelier",
            },
        ),
    ] = "likelier",
    allocation: Annotated[
        str,
        Choice(
            label="Bits of an output",
            help="Whether all outputs of a layer have the same bits.",
            options={
                "spread": "outputs with larger weights have more; the mean stays within Bits",
                "equal": "all outputs have the same bits",
            },
        ),
    ] = "spread",
    correction: Annotated[
        bool,
        Toggle(
            label="Correct means",
            help="Give the rounded weights of each output the mean and deviation that they had before.",
        ),
    ] = True,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Clip each output where a formula expects the least squared error, and round to evenly spaced values.

    A layer's bits go to its outputs by their spread to the power of 2/3. Levels lie on both sides of an exact
    zero, so a clip is that of 2^bits - 1 levels. Exact zeros stay exact zeros and do not count as weights of
    the distribution. Biases and normalisation stay 32-bit floats.
    """
    names = {layer: name for layer, name in weight_layers(bundle).items() if layer not in leave_out}
    params, said = dict[str, Param](bundle.params), dict[str, Mapping[str, Any]]()
    for layer, name in names.items():
        values = bundle.params[name].decode()
        params[name], said[layer] = _rounded(values, bits, distribution, allocation == "spread", correction)
    after = bundle.become(params)
    layers = rounding.table(bundle, after, names, said, LAYER_COLUMNS)
    notes = tuple(reports.named("Left out:", leave_out))
    return after, Report(rounding.figures(layers), {"layers": layers}, notes)


def _rounded(
    values: Tensor, mean_bits: int, distribution: str, by_spread: bool, correction: bool
) -> tuple[Rows, dict[str, Any]]:
    """A weight in rows, and what the report says of it."""
    matrix = values.detach().flatten(1)
    spreads, kinds = analytic_clip.spread(matrix, distribution)
    bits = torch.full((len(matrix),), mean_bits, dtype=torch.int32)
    if by_spread:
        bits = analytic_clip.shared_bits(spreads, mean_bits, LEAST, MOST)
    factors = [analytic_clip.best_clip(2**b - 1, kind) for b, kind in zip(bits.tolist(), kinds, strict=True)]
    clip = spreads * torch.tensor(factors, dtype=torch.float64)
    rows, clipped = _grid(matrix, bits, clip, correction)
    said = {
        "least_bits": int(bits.min()),
        "most_bits": int(bits.max()),
        "normal_rows": kinds.count(analytic_clip.NORMAL),
        "clipped": float(clipped.double().mean()),
    }
    return Rows(rows.codes.reshape(values.shape), rows.bits, rows.scale, rows.offset), said


def _grid(matrix: Tensor, bits: Tensor, clip: Tensor, correction: bool) -> tuple[Rows, Tensor]:
    """2^bits - 1 bins of equal width over the clip of each row; and which weights lie beyond."""
    width = 2 * clip / (2.0**bits - 1)
    scale = torch.where(width > 0, width, 1.0).to(torch.float32).clamp(min=torch.finfo(torch.float32).tiny)
    top = (2 ** (bits - 1) - 1).to(torch.float32)[:, None]
    codes = torch.clamp((matrix / scale[:, None]).round(), -top, top).to(torch.int32)
    plain = Rows(codes, bits, scale, torch.zeros_like(scale))
    if correction:
        factor, offset = analytic_clip.corrected(matrix, plain.decode(), matrix != 0)
        moved = Rows(codes, bits, (scale * factor).to(torch.float32), offset.to(torch.float32))
        plain = moved.with_zeros(matrix != 0)
    return plain, matrix.double().abs() > clip[:, None]
