"""`slimscope latency`: measured time of every variant of a compressed net."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from typing import Any

from engine.commands import Said, options
from engine.figures import latency
from engine.net import sources
from engine.printing import aligned, number
from engine.recipe import run as recipes
from engine.types import Figure


def add(verbs: Any) -> None:
    command = verbs.add_parser("latency", help="measured time of every form of a compressed model")
    options.add_model(command)
    options.add_recipe(command)
    command.add_argument("--batch", metavar="N", type=int, default=1, help="samples at once")
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    _, original, _ = options.model_of(given)
    recipe = options.recipe_of(given, original)
    after = recipes.run(original, recipe, sources.data(original.arch))[0]
    rows = [
        {field.name: getattr(row, field.name) for field in fields(row)}
        for row in latency.latency(original, after, given.batch)
    ]
    head = ("form", "runtime", "ms", "times as fast", "bytes", "why")
    text = aligned([head, *(tuple(map(_cell, row.values())) for row in rows)])
    return [{name: _plain(value) for name, value in row.items()} for row in rows], text


def _plain(value: Figure | str | None) -> Any:
    return value.to_dict() if isinstance(value, Figure) else value


def _cell(value: Figure | str | None) -> str:
    return number(value.value) if isinstance(value, Figure) else value or ""
