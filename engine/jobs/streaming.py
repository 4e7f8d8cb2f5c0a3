"""A recipe on a net too large to be held twice: layer by layer, straight into its file.

What comes out is what `engine.recipe.run` gives, in memory for one layer at a time; where equal weights
lie exactly at a pruning threshold, all of them go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.figures import count
from engine.file import packfile
from engine.jobs import layerwise, store
from engine.recipe import migrate, technique
from engine.tensor.histogram import RefinedIndex
from engine.types import Arch, Basis, Bundle, Figure, Param, Progress, Recipe, SlimscopeError, weight_layers

VERSION = 1  # raised when equal recipes would give other bytes than before


def write(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Compress a net, write its .slim file, and read it back tensor by tensor: equal bit for bit.

    Payload: model, recipe (key), data (spec; may be left out). Answers with `figures` (file size,
    sparsity, non-zero weights, as JSON), `tensors` (bytes of each in the file) and where the file is.
    Raises SlimscopeError for a step that must run the net, and one that needs all layers at once
    behind another.
    """
    recipe = migrate.read(payload["recipe"]).live
    data = payload.get("data", "")
    model = store.get_model(payload["model"], data)
    key = _key(payload["model"], recipe, data)
    path = store.net_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    pass_ = _Pass(model, recipe, progress, 0.0, 0.5)
    table = packfile.write(path, pass_.arch, recipe, pass_.params())
    packfile.verify(path, pass_.arch(), recipe, _Pass(model, recipe, progress, 0.5, 1.0).params())
    how = "bytes of the .slim file on disk, header included; read back and equal bit for bit"
    zeros = pass_.weights - pass_.kept
    figures = (
        Figure("file size", path.stat().st_size, "B", Basis.MEASURED, how),
        Figure(
            "sparsity",
            zeros / max(pass_.weights, 1),
            "share",
            Basis.COUNTED,
            "zeros / weights; biases left out",
        ),
        Figure(
            "non-zero weights", pass_.kept, "weights", Basis.COUNTED, "elements != 0 of all weight matrices"
        ),
    )
    result = {
        "figures": [figure.to_dict() for figure in figures],
        "tensors": {str(name): int(size) for name, size in table.groupby("tensor")["bytes"].sum().items()},
    }
    store.put(key, result)
    return result


def written(
    model_id: str, recipe: Recipe, data: str = ""
) -> tuple[tuple[Figure, ...], dict[str, int], Path] | None:
    """What `write` found, bytes of each tensor, and the file; None before it is done."""
    key = _key(model_id, technique.complete(recipe.live), data)
    found, path = store.get(key), store.net_path(key)
    if found is None or not path.is_file():
        return None
    return tuple(store.figure_of(figure) for figure in found["figures"]), found["tensors"], path


def _key(model_id: str, recipe: Recipe, data: str) -> str:
    told = " told" if data else ""  # a file that is taken for a net has that net's names
    digest = hashlib.sha256(f"{VERSION} {model_id} {migrate.kept_as(recipe)}{told}".encode()).hexdigest()
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
