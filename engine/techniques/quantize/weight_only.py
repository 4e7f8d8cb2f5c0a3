"""Weight-only: round weights to 2 to 8 bits in small groups, by one of five methods that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.net import embeddings, matching, taking_up, zoo
from engine.net.taking_up import Maker
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider, Toggle
from engine.recipe.technique import technique
from engine.tensor import awq
from engine.tensor.weight_only import FITTED, Way, scaled
from engine.types import Basis, Bundle, Figure, Param, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = (
    *rounding.COLUMNS[:2],
    *("points", "error_nearest", "error_method", "alpha", "factors"),
    *rounding.COLUMNS[2:],
)
ERRORS = {"error_nearest": "output error, nearest", "error_method": "output error"}
WITH_BITS = ("rtn", "gptq", "awq", "hqq")


@technique(
    family="quantize",
    title="Weight-only",
    reference="Frantar 2022, GPTQ, arXiv 2210.17323; Lin 2023, AWQ, arXiv 2306.00978; Badri & Shaji 2023, "
    "HQQ; Dettmers 2023, QLoRA (NF4), arXiv 2305.14314",
    page="weight_only",
    stage=709,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS},
    known_by="method",
    presets={"gentle": {}, "balanced": {"bits": 3, "group": 32}, "extreme": {"bits": 2, "group": 32}},
    needs_model=True,
)
def weight_only(
    bundle: Bundle,
    data: Data,
    *,
    method: Annotated[
        str,
        Choice(
            label="Method",
            help="How the codes of a layer are found.",
            options={
                "rtn": "each weight to its nearest level",
                "gptq": "column by column; those still to come make up for each error (Frantar 2022)",
                "awq": "inputs that are large get finer weights, by factors found on samples (Lin 2023)",
                "hqq": "zero points between codes: many small errors, a few large ones; no data (Badri 2023)",
                "nf4": "4 bits: quantiles of a normal distribution (Dettmers 2023)",
            },
        ),
    ] = "gptq",
    bits: Annotated[
        int,
        settings.trained_bits(
            "Bits", "Width of a code: b bits can name 2^b levels.", (("method", WITH_BITS),)
        ),
    ] = 4,
    group: Annotated[
        int,
        Slider(
            low=8,
            high=256,
            whole=True,
            step=8,
            unit="weights",
            label="Group size",
            help="Consecutive weights that share a scale of 32 bits, and a zero point but for NF4.",
            redraws=True,
        ),
    ] = 64,
    range: Annotated[
        str,
        settings.fitted_range("Which values a group's grid spans, before anything else is searched."),
    ] = "minmax",
    include_embedding: Annotated[
        bool,
        Toggle(
            label="Embeddings too",
            help="Tables of word vectors are rounded as well: to nearest, unless the method needs no data.",
            redraws=True,
        ),
    ] = False,
    damping: Annotated[
        float,
        settings.redrawing(settings.damping("the less GPTQ carries from column to column")),
    ] = 0.01,
    act_order: Annotated[
        bool,
        Toggle(
            label="Order by activation",
            help="GPTQ rounds the columns first whose inputs are largest.",
            redraws=True,
            advanced=True,
            when=(("method", ("gptq",)),),
        ),
    ] = True,
    p: Annotated[
        float,
        Slider(
            low=0.3,
            high=1.0,
            step=0.05,
            unit="power of an error",
            label="p",
            help="HQQ's norm: the smaller, the less a few large errors count.",
            when=(("method", ("hqq",)),),
            advanced=True,
            redraws=True,
        ),
    ] = 0.7,
    samples: Annotated[
        int,
        settings.redrawing(
            settings.advanced(settings.samples("Samples that the layers' inputs are taken from."))
        ),
    ] = 500,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    seed: Annotated[
        int,
        settings.redrawing(
            settings.seed("Fixes the places of the samples, and which samples errors are measured on.")
        ),
    ] = 0,
) -> tuple[Bundle, Report]:
    """Round weights in groups of neighbours that share a scale; what enters the layers stays 32-bit floats.

    Layers go in the order of the model: GPTQ and AWQ fit each on what the rounded ones before it give. AWQ's
    factors become a part of the normalisation or layer before, where that changes no answer, else they are
    stored beside the codes. Exact zeros stay exact zeros; biases stay 32-bit floats. Layers whose outputs are
    no matrix times their inputs (recurrent, attention, embedding, grouped, called twice), or that read more
    than 8,192 numbers, get nearest levels where a method must see inputs. Raises SlimscopeError where what
    enters a layer is not finite, or where no layer is left.
    """
    way = Way(method, bits, group, range, damping, act_order, p)
    tables = () if include_embedding else tuple(embeddings.of(bundle))
    names = {x: name for x, name in weight_layers(bundle).items() if x not in (*leave_out, *tables)}
    if not names:
        raise SlimscopeError("weight_only has nothing to round: all layers are left out")
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    images = matching.drawn(data.train, samples, seed)
    narrow = {x: name for x, name in names.items() if values[x][0].numel() <= matching.WIDEST}
    goals = matching.goals_of(zoo.fork(bundle).eval(), narrow, images, matching.PLACES, seed)
    params: dict[str, Param] = dict(bundle.params)
    params |= {names[x]: way.alone(w) for x, w in values.items() if x not in goals}
    before = _taken_up(bundle, names, goals) if method == "awq" else {}
    said, found = dict[str, dict[str, Any]](), dict[str, awq.Found]()

    def new(label: str, rows: Tensor, _: Tensor) -> Tensor:
        weight, fitted = values[label], len(rows) - len(rows) // matching.CHECKED
        if not bool(rows.isfinite().all()):
            raise SlimscopeError(f"layer {label!r} can't be fitted: what enters it is not finite")
        if method == "awq" and label not in found:
            alike = before[label].readers if label in before else (label,)
            search = way.searched([values[x] for x in alike], rows[:fitted])
            found.update(dict.fromkeys(alike, search))
        made = (
            scaled(weight, found[label].factor, way) if label in found else way.fitted(weight, rows[:fitted])
        )
        params[names[label]] = made
        others, decoded = rows[fitted:], made.decode().flatten(1)
        goal = others @ weight.flatten(1).T
        nearest = way.nearest(weight).decode().flatten(1)
        said[label] = {
            "points": fitted,
            "error_nearest": matching.output_error(others, goal, nearest),
            "error_method": matching.output_error(others, goal, decoded),
            "alpha": found[label].alpha if label in found else None,
            "factors": _where(before.get(label)) if label in found and found[label].alpha else "",
        }
        return decoded

    matching.change(zoo.fork(bundle).eval(), narrow, images, goals, new)
    rounded = bundle.become(params)
    after = taking_up.taken_up(rounded, before.values(), {x: each.factor for x, each in found.items()})
    layers = rounding.table(bundle, rounded, names, said, LAYER_COLUMNS)
    stored = {label: after.params[name].fixed_bits() for label, name in names.items()}
    layers["bits_per_weight"] = layers["layer"].map(stored) / layers["weights"]
    if method != "awq":
        layers = layers.drop(columns=["alpha", "factors"])
    outputs = reports.output_errors(layers, ERRORS, _how)
    mean_bits, off = rounding.figures(layers)
    return after, Report(
        (*outputs, mean_bits, off, *_embedded(bundle, after, names)),
        {"layers": layers},
        _notes(way, len(images), names, said, tables, leave_out),
    )


def _taken_up(bundle: Bundle, names: Mapping[str, str], goals: Mapping[str, Any]) -> dict[str, Maker]:
    """Layer -> what takes up its factors: all that read there are rounded, and so is the layer that gives."""
    return {
        label: maker
        for label, maker in taking_up.makers(bundle.arch).items()
        if all(reader in goals for reader in maker.readers) and (not maker.is_layer or maker.name in names)
    }


def _where(maker: Maker | None) -> str:
    return "beside its codes" if maker is None else f"in {maker.name}"


def _embedded(before: Bundle, after: Bundle, names: Mapping[str, str]) -> tuple[Figure, ...]:
    """How much of the weights' bits are those of tables of word vectors; nothing for models without."""
    tables, every = embeddings.of(before), weight_layers(after)
    if not tables:
        return ()
    bits = {label: after.params[name].fixed_bits() for label, name in every.items()}
    share = sum(bits[label] for label in tables) / sum(bits.values())
    how = "bits of the tables at fixed width over those of all weights, after this step"
    rounded = "rounded" if all(label in names for label in tables) else "32-bit floats"
    return (Figure("embeddings", share, "share", Basis.MODELLED, f"{how}; the tables are {rounded}"),)


def _notes(
    way: Way,
    samples: int,
    names: Mapping[str, str],
    said: Mapping[str, Any],
    tables: Sequence[str],
    leave_out: Sequence[str],
) -> tuple[str, ...]:
    checked = samples // matching.CHECKED
    unseen = [label for label in names if label not in said]
    fitted = f"Fitted on {samples - checked:,} training samples, errors" if way.method in FITTED else "Errors"
    return (
        f"{fitted} measured on {checked:,} training samples{' more' * (way.method in FITTED)}.",
        *reports.named("Rounded to nearest:", unseen if way.method in FITTED else []),
        *reports.named("Embeddings that stay 32-bit floats:", tables),
        *reports.named("Left out:", leave_out),
    )


def _how(worst: pd.Series) -> str:
    return (
        f"norm of (outputs - those before rounding) / norm of these, same inputs, of {worst['layer']}, where "
        "rounding to nearest is worst: on training samples that were not fitted"
    )
