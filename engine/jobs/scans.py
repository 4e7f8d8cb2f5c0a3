"""Sweeps and sensitivity scans: rows that are measured once, whoever asks, and shared by processes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from engine.data.sets import Data, Samples
from engine.figures import measure, scores
from engine.file import packfile
from engine.jobs import keys, models, recipes, store, testset
from engine.net import incremental
from engine.recipe import knobs, migrate, sweep, technique
from engine.types import Bundle, Cancelled, Progress, Recipe, SlimscopeError, Step, weight_layers

SAMPLES = 1000  # validation samples that sweeps and scans look at unless told

ACCURACY_HOW = (
    "share right of n fixed, stratified validation samples; Wilson 95 % interval low..high. Of a language "
    "model minus the loss per token in nat, and a bootstrap interval: the perplexity is exp of the loss"
)
CHANGE_HOW = (
    "accuracy minus that of the start on the same samples; Agresti-Min 95 % interval, of a language model "
    "that of a paired bootstrap over windows"
)
BYTES_HOW = "bytes of the compressed file, written and counted, with header, scales and biases"
HOW = {"accuracy": ACCURACY_HOW, "change": CHANGE_HOW, "bytes": BYTES_HOW}


def _sample(data: Data, payload: Mapping[str, Any]) -> Samples:
    count = payload.get("samples", min(SAMPLES, len(data.validation)))
    if not isinstance(count, int) or not 1 <= count <= len(data.validation):
        raise SlimscopeError(f"samples is {count!r}: allowed is 1 to {len(data.validation)}")
    return data.validation.stratified(count)


def _row(recipe: Recipe, before: Tensor, now: Tensor, labels: Tensor) -> dict[str, Any]:
    """`accuracy` is a score as `engine.figures.scores` has them, and so are its interval and the change."""
    figure, change = measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)
    assert figure.spread is not None
    assert change.spread is not None
    now_at, change_at = scores.of(figure), scores.of(change)
    return {
        "recipe": recipe.key,
        **dict(zip(("accuracy", "low", "high"), now_at, strict=True)),
        "n": len(labels),
        **dict(zip(("change", "change_low", "change_high"), change_at, strict=True)),
    }


EMPTY = dict.fromkeys(("accuracy", "low", "high", "n", "change", "change_low", "change_high"))


def remembered(key: str, recipe: Recipe, compute: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A row from the store, or computed and kept; a recipe that can't be followed gives its reason.

    None while another process computes it.
    """
    with store.claimed(key, wait=False) as mine:
        if not mine:
            return None
        saved = store.get(key)
        if saved is not None:
            return {**saved, "refused": ""}
        try:
            row = compute()
        except Cancelled:
            raise
        except SlimscopeError as error:
            return {"recipe": recipe.key, **EMPTY, "refused": str(error)}
        store.put(key, row)
        return {**row, "refused": ""}


Attempt = Callable[[int, Progress], dict[str, Any] | None]  # the row of a number, None: another is at it


def _found(count: int, attempt: Attempt, progress: Progress, skip: bool) -> list[dict[str, Any]]:
    """All rows in their order, each reported as it comes.

    One that another process computes is taken from the store when it is there; until then those
    behind it wait, or with `skip` are computed, so that several processes share the work.
    """
    rows: dict[int, dict[str, Any]] = {}
    while left := [i for i in range(count) if i not in rows]:
        part = progress.part(len(rows) / count, (len(rows) + 1) / count, recipes.untold)
        for i in left if skip else left[:1]:
            part(0.0)
            row = attempt(i, part)
            if row is not None:
                rows[i] = row
                progress(len(rows) / count, row)
                break
        else:
            time.sleep(0.005)
    return [rows[i] for i in range(count)]


def sweeping(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Size and accuracy of every recipe in a grid, the original net first; chooses, so it sees validation.

    Payload: model, recipe (key), data (spec), step (from 1), vary {setting: [values]} of one or
    two settings, samples (n). Each row: the settings, recipe, bytes of the real file, accuracy
    low..high of n, paired change to the original, baseline, refused (why, or empty). Rows
    stream as they come; rows in the store are not computed again, and processes that do the
    same sweep at once share its rows.
    """
    source = testset.needed(keys.read_data(payload["data"]))
    whole, number = migrate.read(payload["recipe"]), payload["step"]
    model, sample = models.get_model(payload["model"], payload["data"]), _sample(source, payload)
    grid = [({}, Recipe()), *sweep.variations(whole, number, payload["vary"])]
    shared = technique.complete(Recipe(whole.steps[: number - 1]).live)
    measure_point = measuring(model, shared, source, sample, progress)

    def attempt(i: int, part: Progress) -> dict[str, Any] | None:
        settings, recipe = grid[i]
        key = point_key(model, recipe, source, len(sample))
        row = remembered(key, recipe, lambda: measure_point(recipe, part))
        if row is None:
            return None
        return {**settings, "bytes": None, **row, "recipe": recipe.key, "baseline": not len(recipe)}

    rows = _found(len(grid), attempt, progress, skip=True)
    return {"rows": rows, "how": HOW}


def point_key(model: Bundle, recipe: Recipe, data: Data, n: int) -> str:
    """The key of a recipe's size and accuracy on n validation samples.

    Other coders make other bytes; what was trained is kept under its own key.
    """
    return keys.of_recipe("sweep", model, recipe.live, data, n, packfile.BYTES)


def measuring(
    model: Bundle, shared: Recipe, data: Data, sample: Samples, progress: Progress
) -> Callable[[Recipe, Progress], dict[str, Any]]:
    """What measures recipes that begin with the steps `shared`: real bytes and validation accuracy, as a row.

    The shared steps are followed once, and the original is run once. What is missing is trained.
    """
    quiet = Progress(cancelled=progress.cancelled)
    start = functools.cache(lambda: recipes.make(model, shared, data, quiet)[0])
    before = functools.cache(lambda: testset.predicted(model, sample, quiet))

    def point(recipe: Recipe, part: Progress) -> dict[str, Any]:
        bundle = recipes.make(start(), recipe.live, data, part)[0] if len(recipe) else model
        now = testset.predicted(bundle, sample, part) if len(recipe) else before()
        return {**_row(recipe.live, before(), now, sample.labels), "bytes": packfile.size(bundle).value}

    return point


def sensitivity(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """What one technique on one layer at a time costs in accuracy; it chooses, so it sees validation.

    Payload: model, recipe (key, followed first), data (spec), technique, setting, values,
    settings (the others), samples (n), layers (all unless told), all_but (the technique touches all
    layers but that one instead). One row per layer and value: layer, value, accuracy low..high of n, paired
    change to the start, refused.
    """
    source = testset.needed(keys.read_data(payload["data"]))
    model, sample = models.get_model(payload["model"], payload["data"]), _sample(source, payload)
    prefix = migrate.read(payload["recipe"]).live
    start = recipes.make(model, prefix, source, Progress(cancelled=progress.cancelled))[0]
    first = functools.cache(
        lambda: incremental.answers(start, sample, tell=Progress(cancelled=progress.cancelled))
    )
    todo = scan(start, payload)

    def attempt(i: int, part: Progress) -> dict[str, Any] | None:
        layer, value, step = todo[i]
        recipe = technique.complete(prefix.then(step))

        def compute() -> dict[str, Any]:
            bundle = recipes.make(start, recipe, source, part)[0]
            before, trace = first()
            return _row(recipe, before, testset.predicted(bundle, sample, part, trace), sample.labels)

        row = remembered(keys.of_recipe("sensitivity", model, recipe, source, len(sample)), recipe, compute)
        return None if row is None else {"layer": layer, "value": value, **row}

    rows = _found(len(todo), attempt, progress, skip=False)  # a curve is drawn from its first point on
    return {"rows": rows, "how": {"accuracy": ACCURACY_HOW, "change": CHANGE_HOW}}


def scan(start: Bundle, payload: Mapping[str, Any]) -> list[tuple[str, Any, Step]]:
    """The steps of a sensitivity scan: (layer, value, the step for that layer alone, or for all others)."""
    known, setting = technique.get(payload["technique"]), payload["setting"]
    left_out = [name for name, knob in known.knobs.items() if isinstance(knob, knobs.Layers)]
    if not left_out or setting not in known.knobs:
        lacks = f"setting {setting!r}" if left_out else "a setting for layers that are not touched"
        raise SlimscopeError(f"{known.name} lacks {lacks}: it has {', '.join(known.knobs)}")
    layers = list(weight_layers(start))
    chosen = knobs.Layers(help="").check("layers", payload.get("layers", layers), start)
    todo = []
    for layer in (name for name in layers if name in chosen):
        others = {left_out[0]: [name for name in layers if (name == layer) == payload.get("all_but", False)]}
        for value in payload["values"]:
            settings = known.check({**payload.get("settings", {}), **others, setting: value})
            todo.append((layer, settings[setting], Step(known.name, settings)))
    return todo
