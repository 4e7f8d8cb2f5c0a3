"""How good a model is on the whole test set, part by part: what is broken off goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.jobs import keys, layerwise, models, recipes, store, streaming
from engine.net import answers as kept
from engine.net import incremental
from engine.recipe import migrate, technique
from engine.types import Bundle, Progress, Recipe, SlimscopeError

PART = 1000  # test samples whose answers are kept at once


def predicted(
    bundle: Bundle, samples: Samples, progress: Progress, last: incremental.Trace | None = None
) -> Tensor:
    """The bundle's answers to all samples (n, ...), asking between batches whether to stop."""
    return incremental.answers(bundle, samples, last, progress)[0]


def needed(data: Data | None) -> Data:
    """The data. Raises SlimscopeError where there is none."""
    if data is None:
        raise SlimscopeError("accuracy needs data: these weights have no known architecture")
    return data


def answers(model: Bundle, recipe: Recipe, data: Data | None) -> Tensor | None:
    """What is kept of the answers to all test samples (n, ...), once an `accuracy` job of it is done.

    The original net's answers are those of the empty recipe. None before.
    """
    saved = store.get(keys.of_recipe("answers", model, technique.complete(recipe.live), data))
    return None if saved is None else kept.restored(saved)


def full_accuracy(model: Bundle, recipe: Recipe, data: Data | None) -> dict[str, Any] | None:
    """What an `accuracy` job answered, or None before it is done."""
    saved = store.get(keys.of_recipe("accuracy", model, technique.complete(recipe.live), data))
    return None if saved is None else dict(saved)


def _test_answers(bundle: Bundle, data: Data, progress: Progress) -> Tensor:
    key = keys.of_recipe("answers", bundle, bundle.lineage, data)
    saved = store.get(key)
    if saved is None:
        saved, n = store.get(f"{key}-part") or [], len(data.test)
        while len(saved) < n:  # what was broken off goes on with the next part
            part = data.test.take(slice(len(saved), len(saved) + PART))
            begun, ended = len(saved) / n, (len(saved) + len(part)) / n
            saved += predicted(bundle, part, progress.part(begun, ended, recipes.untold)).tolist()
            store.put(f"{key}-part", saved)
        store.put(key, saved)
        store.drop(f"{key}-part")
    return kept.restored(saved)


def accuracy(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Accuracy on the whole test set, and the paired difference to the original net.

    Payload: model, recipe (key), data (spec). Answers with both figures as JSON; `answers`
    gives the predictions behind them. The original's own result, that of the empty recipe, is
    kept as well. Raises SlimscopeError before trained steps are trained.
    """
    model_id, recipe = payload["model"], migrate.read(payload["recipe"])
    source = needed(keys.read_data(payload["data"]))
    known = full_accuracy(models.get_model(model_id, payload["data"]), recipe, source)
    if known is not None:
        return known
    bundle = compressed(model_id, recipe, payload["data"], progress.part(0.0, 0.2, recipes.untold))
    before = _test_answers(bundle.origin, source, progress.part(0.2, 0.6, recipes.untold))
    now = _test_answers(bundle, source, progress.part(0.6, 1.0, recipes.untold))
    _put_accuracy(bundle.origin, before, before, source)
    return _put_accuracy(bundle, before, now, source)


def compressed(model_id: str, recipe: Recipe, data: str, progress: Progress) -> Bundle:
    """The compressed model; a large one is made once, with its file."""
    model = models.get_model(model_id, data)
    if recipe.live.steps and layerwise.is_large(model):
        streaming.write({"model": model_id, "recipe": recipe.key, "data": data}, progress)
        made = streaming.made(model_id, recipe, data)
        assert made is not None
        return made[0]
    outcome = recipes.after(model_id, recipe, data)
    if isinstance(outcome, recipes.Missing):
        raise SlimscopeError(outcome.sentence)
    return outcome[0]


def _put_accuracy(bundle: Bundle, before: Tensor, now: Tensor, data: Data) -> dict[str, Any]:
    labels = data.test.labels
    figures = [measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)]
    result = {"recipe": bundle.lineage.key, "figures": [figure.to_dict() for figure in figures]}
    store.put(keys.of_recipe("accuracy", bundle, bundle.lineage, data), result)
    return result
