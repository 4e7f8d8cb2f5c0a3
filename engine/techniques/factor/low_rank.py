"""Low rank: replace a layer by two thin ones whose product is the nearest matrix of that rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
from torch import nn

from engine.data.sets import Data
from engine.figures import reports
from engine.net import zoo
from engine.net.surgery import get_layer, is_read_past
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import technique
from engine.tensor import factors
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, Param, Report, weight_layers

DEFAULT_RANK = 16


def largest_rank(bundle: Bundle) -> int:
    """The largest full rank over all layers and forms; a smaller layer takes at most its own."""
    ranks = [DEFAULT_RANK]
    for name in weight_layers(bundle).values():
        shape = bundle.params[name].shape
        forms = {2: ("linear",), 4: ("channel", "spatial")}.get(len(shape), ())
        ranks += [min(factors.matrix_shape(shape, form)) for form in forms]
    return max(ranks)


RANK = Slider(
    low=1,
    high=largest_rank,
    whole=True,
    unit="singular values kept",
    label="Rank",
    help="How many singular values each layer keeps: the width of the thin middle.",
    when=(("by", ("rank",)),),
)
COLUMNS = (
    "layer",
    "form",
    "full_rank",
    "rank",
    "break_even",
    "energy_kept",
    "error",
    "weights_before",
    "weights_after",
    "applied",
    "why",
)


@technique(
    family="low rank",
    title="Low rank",
    reference="Denton et al. 2014, arXiv 1404.0736; Jaderberg et al. 2014, arXiv 1405.3866",
    page="low_rank",
    stage=200,
    runs="instant",
    locality="layer",
    tables={"layers": COLUMNS},
    presets={
        "gentle": {"by": "energy", "energy": 0.95},
        "balanced": {"by": "energy", "energy": 0.85},
        "extreme": {"by": "share", "share": 0.1},
    },
)
def low_rank(
    bundle: Bundle,
    data: Data | None,
    *,
    by: Annotated[
        str,
        Choice(
            label="Choose the rank by",
            help="What decides how many singular values a layer keeps.",
            options={
                "rank": "the same rank in every layer",
                "energy": "the smallest rank that keeps a share of the energy",
                "share": "the largest rank that fits in a share of the layer's weights",
            },
        ),
    ] = "energy",
    rank: Annotated[int, RANK] = DEFAULT_RANK,
    energy: Annotated[
        float,
        Slider(
            low=0.5,
            high=0.999,
            scale="fine",
            unit="share of the squared singular values",
            percent=True,
            label="Energy kept",
            help="How much of the layer's sum of squared weights the factors hold.",
            when=(("by", ("energy",)),),
        ),
    ] = 0.9,
    share: Annotated[
        float,
        Slider(
            low=0.05,
            high=1.0,
            step=0.01,
            unit="share of the layer's weights",
            percent=True,
            label="Weights kept",
            help="How many weights the two factors may have, against those of the layer.",
            when=(("by", ("share",)),),
        ),
    ] = 0.5,
    form: Annotated[
        str,
        Choice(
            label="Convolutions",
            help="How a convolution is cut into two; fully connected layers know only one way.",
            options={
                "channel": "the full kernel into a few channels, then a 1x1 convolution",
                "spatial": "a column kernel, then a row kernel",
            },
        ),
    ] = "channel",
    per_layer: Annotated[
        Mapping[str, int],
        settings.per_layer(
            RANK, "Own rank", "Layers with a rank of their own, however the others choose theirs."
        ),
    ] = settings.NONE,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Split each layer in two by its truncated singular value decomposition.

    A layer that would not have fewer weights stays as it is, and so do recurrent matrices, grouped
    convolutions and layers whose input is quantized. The factors are plain 32-bit floats: codes and
    zeros of earlier steps do not survive a split.
    """
    net = zoo.skeleton(bundle.arch) if bundle.arch.runs else None
    params, arch, rows, lost = dict(bundle.params), bundle.arch, [], []
    for label, name in weight_layers(bundle).items():
        shape = bundle.params[name].shape
        kind, why = _form(bundle, net, label, name, form)
        if label in leave_out:
            why = "left out"
        if why:
            rows.append(_untouched(label, shape, kind, why))
            continue
        parts = factors.decompose(bundle.params[name].decode(), kind)
        wanted = per_layer.get(label) or _rank(parts, by, rank, energy, share)
        row = _row(label, parts, min(wanted, parts.full_rank))
        rows.append(row)
        if row["applied"]:
            params = _replaced(params, label, parts, row["rank"])
            arch = arch.edit("split", layer=label, rank=row["rank"], form=kind)
            if not isinstance(bundle.params[name], Dense):
                lost.append(label)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return bundle.become(params, arch), Report(_figures(table), {"layers": table}, _notes(table, lost))


def _form(bundle: Bundle, net: nn.Module | None, label: str, name: str, form: str) -> tuple[str, str]:
    """(form of this layer, why it is left alone or nothing)."""
    shape = bundle.params[name].shape
    kind = {2: "linear", 4: form}.get(len(shape), "")
    if label == name:
        return (
            "",
            "it shares its layer with other matrices, as in LSTM and GRU, so it cannot be cut in two",
        )
    if not kind:
        return "", f"a weight of {len(shape)} dimensions has no split"
    layer = get_layer(net, label) if net is not None else None
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return kind, "a grouped convolution is thin already"
    if layer is not None and not isinstance(layer, nn.Linear | nn.Conv2d):
        return kind, f"a layer of type {type(layer).__name__} has no split"
    if name in bundle.arch.ties.values():
        return kind, "another layer shares its numbers, so it cannot be cut in two"
    if net is not None and is_read_past(net, label):
        return kind, "the module around it reads its numbers itself, so it cannot be cut in two"
    if hasattr(layer, "input_quantizer"):
        return kind, "its input is quantized: split first and quantize after"
    return kind, ""


def _rank(parts: factors.Decomposition, by: str, rank: int, energy: float, share: float) -> int:
    match by:
        case "energy":
            return factors.rank_for_energy(parts.values, energy)
        case "share":
            return factors.rank_for_share(parts.shape, parts.form, share)
    return rank


def _row(label: str, parts: factors.Decomposition, rank: int) -> dict[str, Any]:
    """Energy and error are those of the rank, whether or not it is worth a split; weights are real."""
    before = int(parts.left.shape[0] * parts.right.shape[1])
    after = factors.weights_at(parts.shape, parts.form, rank)
    applied = after < before
    limit = factors.break_even(parts.shape, parts.form)
    return {
        "layer": label,
        "form": parts.form,
        "full_rank": parts.full_rank,
        "rank": rank,
        "break_even": limit,
        "energy_kept": factors.energy(parts.values, rank),
        "error": factors.relative_error(parts.values, rank),
        "weights_before": before,
        "weights_after": after if applied else before,
        "applied": applied,
        "why": f"rank {rank} is below the break-even of {limit:.1f}"
        if applied
        else f"rank {rank} would make {after:,} weights out of {before:,}",
    }


def _untouched(label: str, shape: tuple[int, ...], form: str, why: str) -> dict[str, Any]:
    weights = 1
    for length in shape:
        weights *= length
    full = min(factors.matrix_shape(shape, form)) if form else None
    return {
        "layer": label,
        "form": form,
        "full_rank": full,
        "rank": None,
        "break_even": factors.break_even(shape, form) if form else None,
        "energy_kept": 1.0,
        "error": 0.0,
        "weights_before": weights,
        "weights_after": weights,
        "applied": False,
        "why": why,
    }


def _replaced(
    params: Mapping[str, Param], label: str, parts: factors.Decomposition, rank: int
) -> dict[str, Param]:
    """The parameters with the layer's weight and bias under their new names, in their old places."""
    first, second = factors.halves(parts, rank)
    result: dict[str, Param] = {}
    for name, param in params.items():
        if name == f"{label}.weight":
            result[f"{label}.0.weight"] = Dense(first)
            result[f"{label}.1.weight"] = Dense(second)
        elif name == f"{label}.bias":
            result[f"{label}.1.bias"] = param
        else:
            result[name] = param
    return result


def _figures(table: pd.DataFrame) -> tuple[Figure, ...]:
    before, after = int(table["weights_before"].sum()), int(table["weights_after"].sum())
    return (
        Figure("weights", after, "weights", Basis.COUNTED, "elements of all weight matrices after the split"),
        Figure(
            "weights kept", after / max(before, 1), "share", Basis.COUNTED, "weights after / weights before"
        ),
    )


def _notes(table: pd.DataFrame, lost: Sequence[str]) -> tuple[str, ...]:
    rows = zip(table["layer"], table["why"], table["applied"], strict=True)
    notes = [f"{layer} stays as it is: {why}." for layer, why, applied in rows if not applied]
    after = " are 32-bit floats again: quantize after the split."
    return (*notes, *reports.named("The factors of", lost, after))
