"""A recipe on a large model, in the background, into its file: from then on size and zeros are known.

Weights without an architecture may be too large to be held twice: they go layer by layer straight into
the file. What comes out is what `engine.recipe.run` gives, in memory for one layer at a time; where equal
weights lie exactly at a pruning threshold, all of them go. A model that runs is compressed in memory, so
that every technique works on it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from engine.figures import count
from engine.file import packfile
from engine.jobs import as_json, keys, layerwise, models, recipes, store
from engine.recipe import migrate, technique
from engine.tensor.histogram import RefinedIndex
from engine.types import (
    Arch,
    Basis,
    Bundle,
    Figure,
    Param,
    Progress,
    Recipe,
    Report,
    SlimscopeError,
    weight_layers,
)

LOOK_AGAIN = 0.05  # seconds between two looks at work that another process is at
SETTLE = 1.0  # seconds before the work begins
SIZE_HOW = "bytes of the .slim file on disk, header included; read back and equal bit for bit"


def write(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Compress a model, write its .slim file, and read it back tensor by tensor: equal bit for bit.

    Payload: model, recipe (key), data (spec; may be left out). Answers with `figures` (file size,
    sparsity, non-zero weights, parameters, as JSON), `tensors` (bytes of each in the file), and, of a
    model that runs, `reports` of the steps. Processes that are asked for the same at
    once wait for the first. Raises SlimscopeError for a step that is not trained yet, and, of weights
    without an architecture, for a step that must run the model or needs all layers behind another.
    """
    recipe, data = migrate.read(payload["recipe"]).live, payload.get("data", "")
    key = _key(payload["model"], recipe, data)
    if _kept(key) is None:
        _let_settle(progress)
    while True:
        with store.claimed(key, wait=False) as mine:
            if mine:
                return _kept(key) or _written(key, payload["model"], recipe, data, progress)
        progress(0.0)
        time.sleep(LOOK_AGAIN)


def _let_settle(progress: Progress) -> None:
    """Leave the cores to a slider that still moves: each move asks for another file and ends this job."""
    for _ in range(round(SETTLE / LOOK_AGAIN)):
        progress(0.0)
        time.sleep(LOOK_AGAIN)


def _written(key: str, model_id: str, recipe: Recipe, data: str, progress: Progress) -> dict[str, Any]:
    path = models.net_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    make = _write_whole if data else _write_streamed
    result = make(path, model_id, recipe, data, progress)
    store.put(key, result)
    return result


def _write_whole(path: Path, model_id: str, recipe: Recipe, data: str, progress: Progress) -> dict[str, Any]:
    missing = recipes.missing(model_id, recipe, data)
    if missing is not None:
        raise SlimscopeError(missing.sentence)
    model, source = models.get_model(model_id, data), keys.read_data(data)
    bundle, reports = recipes.make(model, recipe, source, progress.part(0.0, 0.5))
    table = packfile.write(path, bundle.arch, recipe, _told(bundle, progress, 0.5, 0.75))
    packfile.verify(path, bundle.arch, recipe, _told(bundle, progress, 0.75, 1.0))
    size = Figure("file size", path.stat().st_size, "B", Basis.MEASURED, SIZE_HOW)
    figures = (size, count.sparsity(bundle), count.nonzeros(bundle), count.parameters(bundle))
    return _result(figures, table) | {"reports": [as_json.report_data(report) for report in reports]}


def _told(bundle: Bundle, progress: Progress, low: float, high: float) -> Iterator[tuple[str, Param]]:
    """The parameters of a bundle; each that is asked for is progress."""
    for number, (name, param) in enumerate(bundle.params.items()):
        progress(low + (high - low) * number / len(bundle.params))
        yield name, param


def _write_streamed(
    path: Path, model_id: str, recipe: Recipe, data: str, progress: Progress
) -> dict[str, Any]:
    model = models.get_model(model_id, data)
    pass_ = _Pass(model, recipe, progress, 0.0, 0.5)
    table = packfile.write(path, pass_.arch, recipe, pass_.params())
    packfile.verify(path, pass_.arch(), recipe, _Pass(model, recipe, progress, 0.5, 1.0).params())
    zeros, how = (pass_.weights - pass_.kept) / max(pass_.weights, 1), "zeros / weights; biases left out"
    kept = "elements != 0 of all weight matrices"
    figures = (
        Figure("file size", path.stat().st_size, "B", Basis.MEASURED, SIZE_HOW),
        Figure("sparsity", zeros, "share", Basis.COUNTED, how),
        Figure("non-zero weights", pass_.kept, "weights", Basis.COUNTED, kept),
    )
    return _result(figures, table)


def _result(figures: Iterable[Figure], table: pd.DataFrame) -> dict[str, Any]:
    return {
        "figures": [figure.to_dict() for figure in figures],
        "tensors": {str(name): int(size) for name, size in table.groupby("tensor")["bytes"].sum().items()},
    }


def _kept(key: str) -> dict[str, Any] | None:
    found = store.get(key)
    return None if found is None or not models.net_path(key).is_file() else dict(found)


def written(
    model_id: str, recipe: Recipe, data: str = ""
) -> tuple[dict[str, Figure], dict[str, int], Path] | None:
    """What `write` found (figures by name), bytes of each tensor, and the file; None before it is done."""
    key = _key(model_id, technique.complete(recipe.live), data)
    found = _kept(key)
    if found is None:
        return None
    figures = map(as_json.figure_of, found["figures"])
    return {figure.name: figure for figure in figures}, found["tensors"], models.net_path(key)


def made(model_id: str, recipe: Recipe, data: str) -> tuple[Bundle, tuple[Report, ...]] | None:
    """The bundle that `write` made of a model that runs, and a report for each step; None before that."""
    live = technique.complete(recipe.live)
    key = _key(model_id, live, data)
    found, bundle = _kept(key), models.get_bundle(key)
    if found is None or bundle is None:
        return None
    model = models.get_model(model_id, data)
    whole = Bundle(bundle.arch, bundle.params, model.origin, live)
    return whole, tuple(as_json.report_of(report) for report in found["reports"])


def _key(model_id: str, recipe: Recipe, data: str) -> str:
    known = " known" if data else ""  # compressed in memory, by the names of the model that it is taken for
    digest = hashlib.sha256(
        f"{packfile.BYTES} {model_id} {migrate.kept_as(recipe)}{known}".encode()
    ).hexdigest()
    return f"whole-{digest[:40]}"


class _Pass:
    """One walk over all layers; counts what it passes, and collects the edits of the architecture."""

    def __init__(self, model: Bundle, recipe: Recipe, progress: Progress, low: float, high: float) -> None:
        self.model, self.recipe, self.progress = model, recipe, progress
        self.low, self.high = low, high
        self.weights = self.kept = 0
        self.edits: list[tuple[str, Mapping[str, Any]]] = []
        self.pools: dict[tuple[str, ...], RefinedIndex] = {}

    def arch(self) -> Arch:
        """The architecture after all layers."""
        return Arch(self.model.arch.name, tuple(self.edits), self.model.arch.config)

    def params(self) -> Iterator[tuple[str, Param]]:
        """Every parameter of the compressed net, in the order of the original."""
        labels = list(weight_layers(self.model))
        layer_of = {name: label for label in labels for name in layerwise.tensors_of(self.model, label)}
        total, done = sum(weight.numel() for _, weight in count.weights(self.model)), 0
        passed = set()
        for name, param in self.model.params.items():
            layer = layer_of.get(name)
            if layer is None:
                yield name, param
            elif layer not in passed:
                passed.add(layer)
                self.progress(self.low + (self.high - self.low) * done / total)
                bundle = self._compressed(layer, labels)
                self.edits.extend(bundle.arch.edits)
                for _, weight in count.weights(bundle):
                    self.weights += weight.numel()
                    self.kept += int(weight.count_nonzero())
                yield from bundle.params.items()
                done += self.model.params[weight_layers(self.model)[layer]].decode().numel()

    def _compressed(self, layer: str, labels: list[str]) -> Bundle:
        bundle = layerwise.of_layer(self.model, layer, None)
        for number, step in enumerate(self.recipe, 1):
            try:
                bundle, _ = layerwise.apply(
                    bundle, step, labels, self._first if number == 1 else layerwise.alone(bundle)
                )
            except SlimscopeError as error:
                raise type(error)(f"step {number} ({step.technique}): {error}") from error
        return bundle

    def _first(self, layers: tuple[str, ...]) -> RefinedIndex:
        """The index of layers before the first step; the last one asked for is kept."""
        if layers not in self.pools:
            weights = dict(count.weights(self.model))
            self.pools = {layers: RefinedIndex([weights[layer] for layer in layers])}
        return self.pools[layers]
