"""Recipes with steps that train: what is trained comes from the store, what is missing is trained once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data.sets import Data
from engine.jobs import as_json, keys, models, shipped, store
from engine.recipe import migrate, run, technique
from engine.types import Bundle, Cancelled, Progress, Recipe, Report, SlimscopeError, Step


@dataclass(frozen=True)
class Missing:
    """A recipe can't be followed before its live step `number` (from 1) is trained.

    `recipe` ends in that step: the payload of an `apply` job.

    >>> Missing(1, Recipe((Step("finetune"),))).sentence
    'step 1 (finetune) is not trained yet: run it first'
    """

    number: int
    recipe: Recipe

    @property
    def sentence(self) -> str:
        return f"step {self.number} ({self.recipe.steps[-1].technique}) is not trained yet: run it first"


@contextmanager
def _named(number: int, step: Step) -> Iterator[None]:
    try:
        yield
    except Cancelled:
        raise
    except SlimscopeError as error:
        raise type(error)(f"step {number} ({step.technique}): {error}") from error


def _kept(model: Bundle, recipe: Recipe, data: Data | None) -> tuple[Bundle, Report] | None:
    key = keys.of_recipe("apply", model, recipe, data)
    saved = store.get(key)
    bundle = models.get_bundle(key) if saved else None
    if saved is None or bundle is None:
        return shipped.get(model, recipe, data)
    return Bundle(bundle.arch, bundle.params, model.origin, recipe), as_json.report_of(saved["report"])


def _advance(
    bundle: Bundle, step: Step, data: Data | None, progress: Progress | None
) -> tuple[Bundle, Report] | None:
    """One step further. A trained step comes from the store; with `progress` it is trained and kept there.

    Whoever trains the same step at this moment is waited for; a training that was broken off goes on.
    """
    known = technique.get(step.technique)
    if not known.trains:
        return run.apply(bundle, step, data)
    recipe = bundle.lineage.then(Step(step.technique, known.check(step.settings, bundle)))
    kept = _kept(bundle, recipe, data)
    if kept is not None or progress is None:
        return kept
    key = keys.of_recipe("apply", bundle, recipe, data)
    with store.training(key) as folder:
        kept = _kept(bundle, recipe, data)
        if kept is not None:
            return kept
        after, report = run.apply(bundle, step, data, replace(progress, folder=folder))
        models.put_bundle(key, after)
        store.put(key, {"report": as_json.report_data(report)})
    return after, report


def trained(model_id: str, recipe: Recipe, data: str) -> tuple[Bundle, Report] | None:
    """What an `apply` job made of this recipe, whose last live step trains; None before it is done."""
    return _kept(models.get_model(model_id, data), technique.complete(recipe.live), keys.read_data(data))


def after(model_id: str, recipe: Recipe, data: str) -> tuple[Bundle, list[Report]] | Missing:
    """All live steps of a recipe: (last bundle, one report for each), or the step that must be trained.

    Trained steps come from the store; nothing is trained here. Raises SlimscopeError with the
    number and name of the step that failed in front.
    """
    bundle, reports, source = models.get_model(model_id, data), [], keys.read_data(data)
    live = technique.complete(recipe.live)
    for number, step in enumerate(live, 1):
        with _named(number, step):
            outcome = _advance(bundle, step, source, None)
        if outcome is None:
            return Missing(number, Recipe(live.steps[:number]))
        bundle, report = outcome
        reports.append(report)
    return bundle, reports


def missing(model_id: str, recipe: Recipe, data: str) -> Missing | None:
    """The first step that must be trained before this recipe can be followed; nothing is worked out."""
    live = technique.complete(recipe.live)
    if not any(technique.get(step.technique).trains for step in live):
        return None
    model, source = models.get_model(model_id, data), keys.read_data(data)
    for number, step in enumerate(live, 1):
        start = Recipe(live.steps[:number])
        key = keys.of_recipe("apply", model, start, source)
        is_there = _is_kept(key) or shipped.get(model, start, source) is not None
        if technique.get(step.technique).trains and not is_there:
            return Missing(number, start)
    return None


def _is_kept(key: str) -> bool:
    return store.get(key) is not None and models.net_path(key).is_file()


def _numbered(step: int, row: Mapping[str, float]) -> dict[str, float]:
    return {**row, "step": step}


def untold(row: Mapping[str, float]) -> None:
    """Leave a row of a training out of the series of the job around it."""


def make(
    bundle: Bundle, recipe: Recipe, data: Data | None, progress: Progress, rows: bool = False
) -> tuple[Bundle, list[Report]]:
    """Follow the rest of a complete, live recipe from a bundle on its way; what is missing is trained.

    The bundle's lineage is the beginning of the recipe. With `rows`, the live series of the
    training goes on, each row with the number of its step.
    """
    first, reports = len(bundle.lineage), []
    todo = range(first + 1, len(recipe) + 1)
    lasting = [n for n in todo if technique.get(recipe.steps[n - 1].technique).trains] or list(todo)
    for number, step in enumerate(recipe.steps[first:], first + 1):
        at = sum(n < number for n in lasting) / len(lasting)
        told = functools.partial(_numbered, number) if rows else untold
        part = progress.part(at, at + 1 / len(lasting), told)
        part(0.0)
        with _named(number, step):
            outcome = _advance(bundle, step, data, part)
        assert outcome is not None  # with a progress, what is missing is trained
        bundle, report = outcome
        reports.append(report)
    return bundle, reports


def apply(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train a recipe's missing steps, each kept as soon as it is done.

    Payload: model, recipe (key), data (spec). Answers with the complete recipe and the
    figures of its last step; `trained` and `after` give the net.
    """
    recipe = migrate.read(payload["recipe"]).live
    if not any(technique.get(step.technique).trains for step in recipe):
        raise SlimscopeError("no step of this recipe trains: there is nothing to run")
    model = models.get_model(payload["model"], payload["data"])
    _, reports = make(model, recipe, keys.read_data(payload["data"]), progress, rows=True)
    return {"recipe": recipe.key, "figures": [figure.to_dict() for figure in reports[-1].figures]}
