"""The time of each layer on this machine: measured when it is asked for, and kept for its processor.

Times depend on shapes, not on weights, so that they serve every recipe that leaves a model its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime

from engine.figures.latency import layers
from engine.figures.latency.layers import LayerTime, LayerTimes
from engine.jobs import as_json, keys, store, testset
from engine.net import processor
from engine.recipe import migrate
from engine.types import Bundle, Progress

BATCH = 1


def kept(bundle: Bundle) -> LayerTimes | None:
    """What was measured of a model of this shape, on a processor of this name."""
    found = store.get(_key(bundle))
    return None if found is None else _read(found)


def time_layers(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Measure the layers of a model anew, and keep their times. Payload: model, recipe (key), data (spec).

    Raises SlimscopeError before trained steps are trained, and where `layers.layer_times` does.
    """
    recipe, data = migrate.read(payload["recipe"]), testset.needed(keys.read_data(payload["data"]))
    bundle = testset.compressed(payload["model"], recipe, payload["data"], progress.part(0.0, 0.2))
    progress(0.2)
    found = layers.layer_times(bundle, data.train, data.validation.inputs(slice(0, BATCH)))
    store.put(_key(bundle), _data(found))
    return {"layers": len(found.rows), "processor": found.processor}


def _key(bundle: Bundle) -> str:
    shapes = {name: list(param.shape) for name, param in bundle.params.items()}
    what = (bundle.arch.key, shapes, BATCH, processor.name(), onnxruntime.__version__)
    return keys.result_key("layer times", *what)


def _data(found: LayerTimes) -> dict[str, Any]:
    rows = [
        (row.layer, row.floats.to_dict(), row.integers and row.integers.to_dict(), row.why)
        for row in found.rows
    ]
    return {"rows": rows, "whole": found.whole.to_dict(), "processor": found.processor}


def _read(data: Mapping[str, Any]) -> LayerTimes:
    rows = (
        LayerTime(layer, as_json.figure_of(floats), integers and as_json.figure_of(integers), why)
        for layer, floats, integers, why in data["rows"]
    )
    return LayerTimes(tuple(rows), as_json.figure_of(data["whole"]), data["processor"])
