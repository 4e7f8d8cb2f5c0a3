"""`slimscope latency`: measured time of every variant of a compressed net, or of each of its layers."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import fields
from typing import Any

from engine.commands import Said, options
from engine.figures import latency
from engine.figures.latency import layers
from engine.net import sources
from engine.printing import aligned, number
from engine.recipe import run as recipes
from engine.types import Bundle, Figure


def add(verbs: Any) -> None:
    command = verbs.add_parser("latency", help="measured time of every form of a compressed model")
    options.add_model(command)
    options.add_recipe(command)
    command.add_argument("--batch", metavar="N", type=int, default=1, help="samples at once")
    told = "each layer alone instead, on floats and on 8-bit codes: what mixed_precision takes as `times`"
    command.add_argument("--layers", action="store_true", help=told)
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    _, original, _ = options.model_of(given)
    recipe = options.recipe_of(given, original)
    after = recipes.run(original, recipe, sources.data(original.arch))[0]
    if given.layers:
        return _layers(after, given.batch)
    rows = [
        {field.name: getattr(row, field.name) for field in fields(row)}
        for row in latency.latency(original, after, given.batch)
    ]
    head = ("form", "runtime", "ms", "times as fast", "bytes", "why")
    text = aligned([head, *(tuple(map(_cell, row.values())) for row in rows)])
    return [{name: _plain(value) for name, value in row.items()} for row in rows], text


def _layers(bundle: Bundle, batch: int) -> Said:
    data = sources.data(bundle.arch)
    found = layers.layer_times(bundle, data.train, data.validation.inputs(slice(0, batch)))
    head = ("layer", "ms on floats", "ms on 8-bit codes", "why not on codes")
    rows = [(x.layer, _cell(x.floats), _cell(x.integers) if x.integers else "", x.why) for x in found.rows]
    rows.append(("whole model", _cell(found.whole), "", ""))
    settings = {"limit": "time", "times": found.table}
    text = f"{found.processor}\n{aligned([head, *rows])}\n\n{json.dumps(['mixed_precision', settings])}"
    return {"processor": found.processor, "whole": found.whole.to_dict(), "times": found.table}, text


def _plain(value: Figure | str | None) -> Any:
    return value.to_dict() if isinstance(value, Figure) else value


def _cell(value: Figure | str | None) -> str:
    return number(value.value) if isinstance(value, Figure) else value or ""
