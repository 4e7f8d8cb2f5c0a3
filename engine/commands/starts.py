"""`slimscope starts`: find the recipe that each model of the zoo starts with, on validation samples."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from engine.commands import Said
from engine.data import sets
from engine.data.sets import Samples
from engine.figures import measure, scores
from engine.file import packfile
from engine.net import zoo
from engine.printing import aligned, bar
from engine.recipe import run as recipes
from engine.recipe import starts, technique
from engine.types import Bundle, Recipe

SPARSITIES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
BITS = (8, 6, 5, 4)
TOLERATED = 0.006  # of validation accuracy, or of the loss of a language model in nat
SAMPLES = 5000
WINDOWS = 50  # of a text that is read on: each has many tokens


def add(verbs: Any) -> None:
    command = verbs.add_parser("starts", help="find the recipes that the models of the zoo start with")
    command.add_argument("models", metavar="MODEL", nargs="*", help="all of the zoo unless told")
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    """Write assets/results/starts.json, model by model."""
    known: dict[str, Any] = {"version": 1, "models": {}}
    if starts.FILE.exists():
        known = json.loads(starts.FILE.read_text())
    names = given.models or zoo.trained()
    with bar("starts") as progress:
        for i, name in enumerate(names):
            progress(i / len(names))
            known["models"][name] = found(name)
            starts.FILE.parent.mkdir(parents=True, exist_ok=True)
            starts.FILE.write_text(json.dumps(known, indent=1) + "\n")
    head = ("model", "bytes", "validation loss", "test loss", "recipe")
    rows = [
        (n, *(str(known["models"][n][c]) for c in ("bytes", "validation loss", "test loss", "recipe")))
        for n in names
    ]
    return known, aligned([head, *rows])


def found(name: str) -> dict[str, Any]:
    """The smallest file of pruning and rounding that loses at most TOLERATED on validation samples."""
    bundle, data = zoo.load(name), sets.load(zoo.entry(name).data)
    sample = data.validation.take(slice(0, WINDOWS if data.validation.is_read_on else SAMPLES))
    whole = _score(bundle, sample)
    best: tuple[int, Recipe, Bundle, float] | None = None
    for bits in BITS:
        for sparsity in reversed(SPARSITIES):
            recipe = _recipe(sparsity, bits)
            after = recipes.run(bundle, recipe, data)[0]
            loss = whole - _score(after, sample)
            if loss <= TOLERATED:
                size = len(packfile.pack(after))
                best = min(
                    (size, recipe, after, loss), best or (size, recipe, after, loss), key=lambda each: each[0]
                )
                break
    if best is None:
        return {"recipe": "[]", "bytes": len(packfile.pack(bundle)), "validation loss": 0.0, "test loss": 0.0}
    size, recipe, after, loss = best
    lost = _score(bundle, data.test) - _score(after, data.test)
    row = {"recipe": recipe.key, "bytes": size, "samples": len(sample)}
    return {**row, "validation loss": round(loss, 4), "test loss": round(lost, 4)}


def _score(bundle: Bundle, samples: Samples) -> float:
    return scores.of(measure.accuracy(bundle, samples))[0]


def _recipe(sparsity: float, bits: int) -> Recipe:
    prune = [technique.step("prune_weights", sparsity=sparsity)] if sparsity else []
    return Recipe((*prune, technique.step("quantize", bits=bits, granularity="channel")))
