"""Product quantization: short pieces of a layer's rows share a table, and each is stored as one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports, rounding
from engine.net import matching, zoo
from engine.recipe import settings
from engine.recipe.knobs import Slider
from engine.recipe.technique import technique
from engine.tensor.formats import Product
from engine.tensor.formats.bits import FLOAT
from engine.tensor.product import input_moments
from engine.tensor.product import product_quantize as product_book
from engine.types import Basis, Bundle, Figure, Param, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = (
    *rounding.COLUMNS[:2],
    *("sub_vectors", "entries", "table_share", "output_error_plain", "output_error"),
    *rounding.COLUMNS[2:-1],
)
OF_OUTPUTS = (("error", ("outputs",)),)


@technique(
    family="quantize",
    title="Product quantization",
    reference="Gong et al. 2014, arXiv 1412.6115; Stock et al. 2020, And the bit goes down, arXiv 1907.05686",
    stage=712,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS},
    aha="One number for four weights: 64 entries take 6 bits, which is one and a half for each weight, and "
    "every weight may still have 64 values.",
    trap="The table is stored as well, and it grows with both sliders: in a small layer it takes more bytes "
    "than the codes. Look at its share in each layer.",
    presets={
        "gentle": {"entries": 256, "length": 2},
        "balanced": {},
        "extreme": {"entries": 16, "length": 8},
    },
)
def product_quantize(
    bundle: Bundle,
    data: Data | None,
    *,
    entries: Annotated[
        int,
        Slider(
            low=2,
            high=256,
            scale="log",
            whole=True,
            unit="entries",
            label="Entries",
            help="How many sub-vectors a layer's table holds: 16 take a code of 4 bits for each, 256 of 8.",
        ),
    ] = 64,
    length: Annotated[
        int,
        Slider(
            low=2,
            high=16,
            whole=True,
            unit="weights",
            label="Sub-vector",
            help="How many weights of an output share one code; in a convolution they run through the places "
            "of the kernel, then through the channels.",
        ),
    ] = 4,
    error: Annotated[str, settings.error_of("the tables")] = "weights",
    samples: Annotated[
        int, settings.samples("Samples that the layers' inputs are taken from.", when=OF_OUTPUTS)
    ] = 500,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    seed: Annotated[int, settings.seed("Fixes the first entries, and the places of samples.")] = 0,
) -> tuple[Bundle, Report]:
    """Cut each output's weights into sub-vectors of a few, and store a table of them and one code for each.

    K-means finds the table, one for each layer. For the outputs' error, layers go in the order of the model:
    each sees what the layers before it give with their new weights, and an error in a sub-vector counts as
    the mean square of what it does to an output. Exact zeros stay exact zeros, and have a mask. Biases and
    normalisation stay 32-bit floats. Nothing is trained; Train centroids, as a step behind this one, trains
    the tables. Raises SlimscopeError where the outputs' error is asked for of a model that can't run.
    """
    if error == "outputs" and (data is None or not bundle.arch.runs):
        raise SlimscopeError(
            "outputs are known only where a model runs: it needs a known architecture with data; choose "
            "error = 'weights'"
        )
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    books = {label: product_book(weight, length, entries, None, seed) for label, weight in values.items()}
    said: dict[str, dict[str, float]] = {}
    notes = reports.named("Left out:", leave_out)

    def aware(label: str, rows: Tensor, goal: Tensor) -> Tensor:
        seen = len(rows) - len(rows) // matching.CHECKED
        book = product_book(values[label], length, entries, input_moments(rows[:seen], length), seed)
        both = {"output_error_plain": books[label], "output_error": book}
        said[label] = {
            column: matching.output_error(rows[seen:], goal[seen:], each.decode().flatten(1))
            for column, each in both.items()
        }
        books[label] = book
        return book.decode()

    if error == "outputs" and data is not None:
        images = matching.drawn(data.train, samples, seed)
        goals = matching.goals_of(zoo.fork(bundle).eval(), names, images, matching.PLACES, seed)
        plain = _with(bundle, names, books)
        matching.change(zoo.fork(plain).eval(), names, images, goals, aware)
        checked = len(images) // matching.CHECKED
        notes += [
            f"Inputs are those of {len(images) - checked:,} training samples; outputs are compared on "
            f"{checked:,} others.",
            *reports.named("The error of the weights counts in", [x for x in names if x not in said]),
        ]
    rows = [_row(label, values[label], book, said.get(label, {})) for label, book in books.items()]
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS).dropna(axis=1, how="all")
    large = layers["layer"][layers["table_share"] > 0.5]
    notes += reports.named("The table takes more bits than the codes in", large)
    return _with(bundle, names, books), Report(_figures(layers), {"layers": layers}, tuple(notes))


def _with(bundle: Bundle, names: Mapping[str, str], books: Mapping[str, Product]) -> Bundle:
    coded: dict[str, Param] = {names[label]: book for label, book in books.items()}
    return bundle.become({**bundle.params, **coded})


def _row(layer: str, values: Tensor, book: Product, errors: Mapping[str, float]) -> dict[str, Any]:
    return {
        **rounding.row(layer, values, book),
        "sub_vectors": len(book.codes),
        "entries": len(book.table),
        "table_share": FLOAT * book.table.numel() / book.fixed_bits(),
        **errors,
    }


def _figures(layers: pd.DataFrame) -> tuple[Figure, ...]:
    weights, bits = layers["weights"], layers["bits_per_weight"]
    total = float((bits * weights).sum())
    bits_per_weight = Figure(
        "bits per weight",
        total / max(int(weights.sum()), 1),
        "bits",
        Basis.MODELLED,
        "(sub-vectors x bits of a code + 32 bits for each number of a table + one bit a weight for the mask "
        "of a layer with zeros) / weights of this step's layers",
    )
    tables = Figure(
        "share of the tables",
        float((layers["table_share"] * bits * weights).sum()) / max(total, 1),
        "share",
        Basis.MODELLED,
        "32 bits for each number of the tables / all bits of this step's layers, codes at fixed width",
    )
    return (bits_per_weight, tables, rounding.figures(layers)[1], *_output_errors(layers))


def _output_errors(layers: pd.DataFrame) -> tuple[Figure, ...]:
    """Those of the layer where tables that only look at weights are worst."""
    if "output_error" not in layers or layers["output_error"].isna().all():
        return ()
    worst = layers.dropna(subset=["output_error"]).sort_values("output_error_plain").iloc[-1]
    how = (
        f"norm of (outputs - what they were) / norm of what they were, of {worst['layer']}, where tables for "
        "the weights are worst: on training samples that nothing was read from"
    )
    return (
        Figure(
            "output error, for the weights", float(worst["output_error_plain"]), "share", Basis.MEASURED, how
        ),
        Figure("output error, for the outputs", float(worst["output_error"]), "share", Basis.MEASURED, how),
    )
