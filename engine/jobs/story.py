"""The guided story of one model: from the original, by pruning, fine-tuning and rounding, to the file.

Each chapter is a recipe and what was measured of it. Stored in assets/results/story, one file for each
model; `slimscope story` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.data.sets import ASSETS, Data, Samples
from engine.figures import measure
from engine.file import packfile
from engine.jobs import shipped
from engine.net import zoo
from engine.recipe import run as recipes
from engine.recipe import technique
from engine.types import Bundle, Progress, Recipe, SlimscopeError

VERSION = 1  # of the stored files
FOLDER = ASSETS / "results" / "story"
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
TUNED = 0.9  # the sparsity that goes on to fine-tuning: the default, whose training is stored
BITS = 4

Row = dict[str, Any]


def pruned(sparsity: float) -> Recipe:
    """Pruning alone."""
    return technique.complete(Recipe((technique.step("prune_weights", sparsity=sparsity),)))


def tuned() -> Recipe:
    """Pruning, and the fine-tuning of the weights that are left."""
    return technique.complete(pruned(TUNED).then(technique.step("finetune")))


def rounded() -> Recipe:
    """The whole recipe: pruned, fine-tuned, and rounded to BITS bits."""
    step = technique.step("quantize", bits=BITS, granularity="channel")
    return technique.complete(tuned().then(step))


def path(model: str, folder: Path = FOLDER) -> Path:
    """Where the story of a model is, or would be."""
    return folder / f"{model}.json"


def stored(model: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The stored story of a model; None where there is none that this version wrote."""
    try:
        found: dict[str, Any] = json.loads(path(model, folder).read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("version") == VERSION else None


def tell(model: str, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every chapter of a model of the zoo: real bytes, validation and test accuracy.

    The training comes from what `slimscope stored` keeps; where it keeps none, it is trained and kept.
    """
    progress = progress or Progress()
    bundle, data = zoo.load(model), sets.load(zoo.entry(model).data)
    rows = [_row("original", bundle, Recipe(), data)]
    for done, sparsity in enumerate(SPARSITIES):
        progress(done / 10)
        after = recipes.run(bundle, pruned(sparsity), data)[0]
        rows.append({**_row("pruned", after, pruned(sparsity), data), "sparsity": sparsity})
    trained = _trained(bundle, data, progress.part(0.5, 0.9))
    rows.append(_row("tuned", trained, tuned(), data))
    last = recipes.apply(trained, rounded().steps[-1], data)[0]
    rows.append(_row("rounded", last, rounded(), data))
    return {"version": VERSION, "model": model, "seed": 0, "rows": rows}


def _trained(bundle: Bundle, data: Data, progress: Progress) -> Bundle:
    found = shipped.get(bundle, tuned(), data)
    if found is not None:
        return found[0]
    after, reports = recipes.run(bundle, tuned(), data, progress)
    shipped.put(bundle, tuned(), data, after, reports[-1])
    return after


def _row(chapter: str, bundle: Bundle, recipe: Recipe, data: Data) -> Row:
    return {
        "chapter": chapter,
        "recipe": recipe.key,
        "bytes": int(packfile.size(bundle).value),
        "validation": _accuracy(bundle, data.validation),
        "test": _accuracy(bundle, data.test),
    }


def _accuracy(bundle: Bundle, samples: Samples) -> Row:
    found = measure.accuracy(bundle, samples)
    if found.spread is None:
        raise SlimscopeError(f"the accuracy of {bundle.arch.title} has no interval: a story needs classes")
    low, high = found.spread
    return {"value": found.value, "low": low, "high": high, "n": len(samples)}


def waterfall(steps: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """What each step adds to the bytes: the first whole, then differences; the sum is the last file's size.

    `steps` are (name, bytes of the file after it) in order. A step that makes the file larger adds.

    >>> waterfall([("original", 100), ("prune", 40), ("round", 45)])
    [('original', 100), ('prune', -60), ('round', 5)]
    """
    sizes = [0, *(size for _, size in steps)]
    return [(name, size - before) for (name, size), before in zip(steps, sizes, strict=False)]


def steps(story: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The steps of the waterfall of a story: the original, pruned as it goes on, fine-tuned, rounded."""
    on = [row for row in story["rows"] if row.get("sparsity", TUNED) == TUNED]
    return [(row["chapter"], row["bytes"]) for row in on]
