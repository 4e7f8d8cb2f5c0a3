"""`slimscope stored`: train what the pages show at first, and keep it among the program's own files."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from engine.commands import Said
from engine.data import sets
from engine.jobs import recipes, shipped
from engine.net import zoo
from engine.printing import aligned, bar


def add(verbs: Any) -> None:
    command = verbs.add_parser("stored", help="train the defaults that come with slimscope")
    command.add_argument("models", metavar="MODEL", nargs="+")
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    """Train what is not stored yet, recipe by recipe: what is done is kept."""
    rows = []
    for name in given.models:
        bundle, data = zoo.load(name), sets.load(zoo.entry(name).data)
        for recipe in shipped.recipes_of(name):
            title = " + ".join(step.technique for step in recipe)
            if shipped.get(bundle, recipe, data) is None:
                with bar(f"{name}: {title}") as progress:
                    after, reports = recipes.make(bundle, recipe, data, progress)
                shipped.put(bundle, recipe, data, after, reports[-1])
            path = shipped.path(bundle, recipe, data)
            rows.append((name, title, f"{path.stat().st_size:,}"))
    return [dict(zip(("model", "recipe", "bytes"), row, strict=True)) for row in rows], aligned(rows)
