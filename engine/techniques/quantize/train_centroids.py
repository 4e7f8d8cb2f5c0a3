"""Train centroids: move the few values that weights share by the summed gradients of those weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import pandas as pd
from torch import nn

from engine.data.sets import Data
from engine.figures import measure, reports, training
from engine.net import zoo
from engine.net.train import Plan, stored, train_on
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import Cost, technique
from engine.tensor import sharing
from engine.tensor.formats import Centroids, Codebook, Dense, Product, SharedVectors
from engine.tensor.kmeans import MOST
from engine.types import Bundle, Param, Progress, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = ("layer", "entries", "moved", "largest_move")
Shared = Codebook | Product


def _keep_codes(book: Shared) -> nn.Module:
    return SharedVectors(book) if isinstance(book, Product) else Centroids(book)


WAYS: Mapping[str, Callable[[Any], nn.Module]] = {
    "centroids": _keep_codes,
    "weights": Codebook.straight_through,
}


@technique(
    family="quantize",
    title="Train centroids",
    reference="Han et al. 2016, Deep Compression, arXiv 1510.00149, section 3.3; for sub-vectors Stock et "
    "al. 2020, And the bit goes down, arXiv 1907.05686",
    page="share",
    stage=720,
    runs="trains",
    cost=lambda chosen: Cost(chosen["epochs"]),
    locality="model",
    tables={
        "curve": ("epoch", "loss", "train accuracy", "validation accuracy"),
        "layers": LAYER_COLUMNS,
    },
    presets={
        "gentle": {"epochs": 1, "learning_rate": 0.0003},
        "balanced": {"epochs": 3, "learning_rate": 0.001},
        "extreme": {"epochs": 10, "learning_rate": 0.003},
    },
)
def train_centroids(
    bundle: Bundle,
    data: Data,
    *,
    epochs: Annotated[int, settings.epochs("How often the model sees all training samples.")] = 3,
    learning_rate: Annotated[
        float,
        settings.learning_rate("How far a step moves a value at the start; it falls to zero along a cosine."),
    ] = 0.001,
    optimizer: Annotated[
        str,
        Choice(
            label="Step",
            help="How a gradient becomes a step.",
            options={
                "adam": "about the rate itself, however many weights a value has",
                "sgd": "the rate times the summed gradient: a value of many weights moves far, so the rate "
                "must be small",
            },
        ),
    ] = "adam",
    moves: Annotated[
        str,
        Choice(
            label="What moves",
            help="Whether a weight may change the value that it has.",
            options={
                "centroids": "the shared values alone: each weight keeps its own (Han 2016)",
                "weights": "weights move as well, and take the nearest value (straight-through gradients)",
            },
        ),
    ] = "centroids",
    entries: Annotated[
        int,
        Slider(
            low=2,
            high=MOST,
            scale="log",
            whole=True,
            unit="entries",
            label="Entries",
            help="Of the tables where no layer shares weights yet: all of them do first, by k-means.",
            advanced=True,
        ),
    ] = 16,
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Train the values that weights share; the result is stored as it was trained: tables and indices.

    A value's gradient is the sum of its weights' gradients, and that of a shared sub-vector (product
    quantization) the sum of its sub-vectors'. Exact zeros stay zero. Biases and normalisation train along;
    layers that share no weights stay as they are. Batch 128, a cosine schedule; images are moved by a few
    pixels, and photos mirrored. Raises SlimscopeError where weights are to move that share sub-vectors, and
    Cancelled through `progress`.
    """
    books = _books(bundle, entries, moves)
    start = bundle.become({**bundle.params, **books})
    net = zoo.fork(start)
    weights = set(weight_layers(start).values())
    for name, parameter in net.named_parameters():
        stays = name in weights or start.arch.ties.get(name) in weights
        parameter.requires_grad_(not stays or (moves == "weights" and name in books))
    part = train_on(net, books, ties=start.arch.ties, way=WAYS[moves])
    first = {"epoch": 0.0, "validation accuracy": measure.right(start, data.validation)}
    plan = Plan(epochs, learning_rate, optimizer, schedule="cosine", weight_decay=0.0, seed=seed)
    series = training.tune(net, data, plan, progress, parts=(part,))
    after = _after(start, net, stored(net, part))
    figures = list(training.change(bundle, after, data.validation))
    curve = pd.DataFrame([first, *series], columns=list(series[0])).astype({"epoch": int})
    notes = [reports.trained_on(data)]
    if not any(isinstance(param, Shared) for param in bundle.params.values()):
        notes.append(f"No layer shared weights: all of them got tables of up to {entries} entries first.")
    return after, Report(tuple(figures), {"curve": curve, "layers": _layers(start, after)}, tuple(notes))


def _books(bundle: Bundle, entries: int, moves: str) -> Mapping[str, Shared]:
    """The tables of a net; where it has none, those of all its layers."""
    found = {name: param for name, param in bundle.params.items() if isinstance(param, Shared)}
    for name, book in found.items():
        if isinstance(book, Product) and moves == "weights":
            raise SlimscopeError(
                f"{name!r} shares sub-vectors, and its weights can't move by themselves: choose "
                "moves = 'centroids'"
            )
    if found:
        return found
    values = {name: bundle.params[name].decode() for name in weight_layers(bundle).values()}
    return {name: sharing.share(w, sharing.table_of(w, entries, "best")) for name, w in values.items()}


def _after(start: Bundle, net: nn.Module, trained: Mapping[str, Param]) -> Bundle:
    weights, state = set(weight_layers(start).values()), net.state_dict()
    others = {
        name: Dense(state[name].detach().clone().contiguous())
        for name in start.params
        if name not in weights and name not in trained
    }
    return start.become({**start.params, **others, **trained})


def _layers(start: Bundle, after: Bundle) -> pd.DataFrame:
    """How far the entries of each table went."""
    rows = []
    for layer, name in weight_layers(start).items():
        old, new = start.params[name], after.params[name]
        if isinstance(old, Shared) and isinstance(new, Shared):
            away = (new.table - old.table).abs()
            rows.append((layer, len(away), float(away.mean()), float(away.max())))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)
