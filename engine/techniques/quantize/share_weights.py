"""Share weights: a table of a few values, found by k-means, and for each weight the number of its entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports
from engine.recipe import settings
from engine.recipe.knobs import Choice, Entries, Slider
from engine.recipe.technique import Ranked, technique
from engine.tensor import sharing
from engine.tensor.kmeans import MOST
from engine.types import Basis, Bundle, Figure, Param, Report, weight_layers

ENTRIES = Slider(
    low=2,
    high=MOST,
    scale="log",
    whole=True,
    unit="entries",
    label="Entries",
    help="How many different values the weights of a table may have: 16 take 4 bits a weight, 256 take 8. "
    "Exact zeros need none.",
)


@technique(
    family="quantize",
    title="Share weights",
    reference="Han et al. 2016, Deep Compression, arXiv 1510.00149, section 3",
    page="share",
    stage=710,
    runs="instant",
    locality="ranked",
    ranked=Ranked(sharing.ranked_alone, sharing.ranked_table),
    tables={"layers": sharing.LAYER_COLUMNS, "entries": sharing.ENTRY_COLUMNS},
    presets={"gentle": {"entries": 64}, "balanced": {"entries": 16}, "extreme": {"entries": 4}},
)
def share_weights(
    bundle: Bundle,
    data: Data | None,
    *,
    entries: Annotated[int, ENTRIES] = 16,
    allocation: Annotated[
        str,
        Choice(
            label="One table per",
            help="Which weights share a table; an entry takes 32 bits.",
            options={"layer": "one table for each layer", "global": "one table for all layers"},
        ),
    ] = "layer",
    start: Annotated[
        str,
        Choice(
            label="Start",
            help="The first table; k-means then moves each entry to the mean of its weights until they rest.",
            options={
                "best": "the best of all tables for the weights in bins, by dynamic programming",
                "linear": "even steps from the smallest weight to the largest: the paper's choice",
                "density": "even shares of the weights: dense where they are, and the largest are far off",
                "random": "weights drawn by chance",
            },
        ),
    ] = "best",
    per_layer: Annotated[
        Mapping[str, int],
        settings.per_layer(ENTRIES, "Own entries", "Layers with a table of their own, of another length."),
    ] = settings.NONE,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    by_hand: Annotated[
        Mapping[str, Mapping[str, float]],
        Entries(
            most=MOST,
            unit="weight",
            label="By hand",
            help="Entries, counted from 0 for the smallest, that are put elsewhere after k-means, and their "
            "weights with them. Those of a table for all layers may stand under any layer.",
            added=True,
        ),
    ] = settings.NONE,
    tables: Annotated[
        Mapping[str, Mapping[str, float]],
        Entries(
            most=MOST,
            unit="weight",
            label="Given tables",
            help="Tables that are given in place of a search; each weight goes to the nearest entry.",
            advanced=True,
            added=True,
        ),
    ] = settings.NONE,
    seed: Annotated[int, settings.seed("Fixes which weights are drawn.", when=(("start", ("random",)),))] = 0,
) -> tuple[Bundle, Report]:
    """Let weights share a few values, found by k-means, and store the table and a short index per weight.

    Exact zeros stay exact zeros and take no entry. Biases and normalisation stay 32-bit floats. Nothing is
    trained: Train centroids does that. A table for all layers is stored with each of them, in the entries
    that it uses.
    """
    asked = {
        "entries": entries,
        "allocation": allocation,
        "start": start,
        "per_layer": per_layer,
        "leave_out": leave_out,
        "by_hand": by_hand,
        "tables": tables,
        "seed": seed,
    }
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    common = sharing.together(asked, list(values))
    shared = _common_table(values, common, entries, start, seed)
    params: dict[str, Param] = dict(bundle.params)
    rows, missing = [], []
    places: list[pd.DataFrame] = []
    for label, weight in values.items():
        table = shared if label in common else sharing.given_of(asked, label)
        if table is None:
            table = sharing.table_of(weight, sharing.entries_of(asked, label), start, seed)
        hand = sharing.hand_of(asked, label, common)
        book = sharing.share(weight, table, hand)
        if label in common:
            book = sharing.used(book)
        params[names[label]] = book
        rows.append(sharing.row_of(label, weight, book, len(hand)))
        places.append(sharing.entries_in(label, weight, table, hand))
        missing += [f"{number} of {label}" for number in hand if int(number) >= len(table)]
    layers = pd.DataFrame(rows, columns=sharing.LAYER_COLUMNS)
    notes = [
        *reports.named("Left out:", leave_out),
        *reports.named("Set by hand, but not in the table:", missing),
    ]
    found = {"layers": layers, "entries": pd.concat(places or [pd.DataFrame(columns=sharing.ENTRY_COLUMNS)])}
    return bundle.become(params), Report(_figures(layers), found, tuple(notes))


def _common_table(
    values: Mapping[str, Tensor], common: Sequence[str], entries: int, start: str, seed: int
) -> Tensor:
    if not common:
        return sharing.EMPTY
    pool = torch.cat([values[label].flatten() for label in common])
    return sharing.table_of(pool, entries, start, seed)


def _figures(layers: pd.DataFrame) -> tuple[Figure, ...]:
    weights = layers["weights"]
    total = max(int(weights.sum()), 1)
    return (
        Figure(
            "bits per weight",
            float((layers["bits_per_weight"] * weights).sum()) / total,
            "bits",
            Basis.MODELLED,
            "(non-zero weights x bits of an index + 32 bits per entry + one bit a weight for the mask of a "
            "layer with zeros) / weights of this step's layers",
        ),
        Figure(
            "codebook",
            4 * int(layers["entries"].sum()),
            "bytes",
            Basis.COUNTED,
            "4 bytes per entry of the tables of this step's layers",
        ),
        Figure(
            "mean squared error",
            float((layers["mse"] * weights).sum()) / total,
            "squared weight",
            Basis.COUNTED,
            "mean of (w - shared w)^2 over the weights of this step's layers, against its input",
        ),
    )
