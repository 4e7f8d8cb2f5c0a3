"""Apply recipes: a left fold of techniques over a bundle."""

from __future__ import annotations

from dataclasses import replace

from engine.data import user_errors
from engine.data.sets import Data
from engine.recipe import technique
from engine.types import Bundle, Progress, Recipe, Report, SlimscopeError, Step


def apply(
    bundle: Bundle, step: Step, data: Data | None, progress: Progress | None = None
) -> tuple[Bundle, Report]:
    """One step: (new bundle, its report). The input bundle is never touched.

    `data` is None for weights without a known architecture; techniques that must run the net
    then refuse. Raises SettingError, SlimscopeError, or Cancelled through `progress`.
    """
    known = technique.get(step.technique)
    settings = known.check(step.settings, bundle)
    if known.needs_model and (data is None or not bundle.arch.runs):
        lacks = "no known architecture fits"
        if bundle.arch.runs:
            scaled = bundle.arch.source == "zoo"
            lacks = "the scaling of its inputs is not known" if scaled else "no data are known (--data)"
        raise SlimscopeError(f"{known.title} must run the model, but {lacks}")
    extra = {"progress": progress or Progress()} if known.trains else {}
    if bundle.arch.source == "user":
        with user_errors.own_errors(f"{known.title} can't be applied to {bundle.arch.title}"):
            after, report = known.function(bundle, data, **settings, **extra)
    else:
        after, report = known.function(bundle, data, **settings, **extra)
    done = Step(step.technique, settings)
    return replace(after, source=bundle.origin, lineage=bundle.lineage.then(done)), replace(report, step=done)


def run(
    bundle: Bundle, recipe: Recipe, data: Data | None, progress: Progress | None = None
) -> tuple[Bundle, list[Report]]:
    """All live steps of a recipe in order: (last bundle, one report for each).

    Raises SlimscopeError with the number and name of the step that failed in front.
    """
    reports = []
    for number, step in enumerate(recipe.live, 1):
        try:
            bundle, report = apply(bundle, step, data, progress)
        except SlimscopeError as error:
            raise type(error)(f"step {number} ({step.technique}): {error}") from error
        reports.append(report)
    return bundle, reports
