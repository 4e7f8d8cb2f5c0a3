"""Every technique by itself on one model: points of accuracy against bytes, on the same validation samples.

The points are those of the techniques' curves (`engine.jobs.curves`): stored in assets, or kept since
somebody measured them. What is missing is measured by a job, a few points for each technique.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.jobs import curves, dates, keys, models, recipes, scans, store, testset
from engine.jobs.curves import Course, Row
from engine.recipe import curve, migrate, technique
from engine.types import Progress, Recipe, SlimscopeError

FEW = 7  # points of a technique that a job measures
SEVERAL = "recipe"  # stands for the technique of a recipe with more than one step


def courses(model_id: str, spec: str) -> tuple[Course, ...]:
    """The curve of each technique that has one by itself. Raises SlimscopeError where there is no data."""
    testset.needed(keys.read_data(spec))
    found = []
    for name in technique.REGISTRY:
        of = curves.alone(model_id, spec, name)
        if of is not None:
            found.append(of)
    return tuple(found)


def points(of: Sequence[Course]) -> list[Row]:
    """What is known of these curves of one model, nothing worked out; the original is one of the rows.

    A row is one of a curve with `recipe` (key), `technique` (name; "" of the original) and `stored`, whether
    it came with slimscope.
    """
    kept = store.some(key for each in of for key in each.keys.values())
    found: dict[str, Row] = {}
    for each in of:
        for value, row in _known(each, kept).items():
            recipe = each.at(value)
            found.setdefault(recipe.key, {**row, "recipe": recipe.key, "technique": name_of(recipe)})
    return list(found.values())


def _known(of: Course, kept: Mapping[str, Row]) -> dict[Any, Row]:
    measured = {value: {**kept[key], "value": value} for value, key in of.keys.items() if key in kept}
    stored = {row["value"]: row for row in curves.stored(of)}
    both = {**measured, **stored}
    return {value: {**row, "stored": value in stored} for value, row in both.items()}


def name_of(recipe: Recipe) -> str:
    """The technique that a point is shown under: of its only step, "" of the original, else SEVERAL."""
    live = recipe.live.steps
    return SEVERAL if len(live) > 1 else live[0].technique if live else ""


def missing(of: Iterable[Course]) -> list[Course]:
    """The curves of techniques that do not train, and of which too few points are known."""
    wanted = [each for each in of if not each.trains and not curves.stored(each)]
    kept = store.some(key for each in wanted for key in each.keys.values())
    return [each for each in wanted if _next(each, list(_known(each, kept).values())) is not None]


def _next(of: Course, rows: Iterable[Row]) -> Any | None:
    return curve.next_value(of.values, rows, FEW)


# ---------------------------------------------------------------- one recipe


def point_key(model_id: str, recipe: Recipe, spec: str) -> str:
    """The key of a recipe's point in the store, on the samples that its model's curves are measured on."""
    model, data = models.get_model(model_id, spec), testset.needed(keys.read_data(spec))
    live = technique.complete(recipe.live)
    return scans.point_key(model, live, data, curves.sample_size(model, data))


def point(model_id: str, recipe: Recipe, spec: str) -> Row | None:
    """What is kept of a recipe, as a row of `points`; None where it was not measured."""
    row = store.get(point_key(model_id, recipe, spec))
    return None if row is None else {**row, "technique": name_of(recipe), "stored": False}


def measured(model_id: str, recipe: Recipe, spec: str, progress: Progress) -> Row:
    """As `point`, measured where that was not done. Raises SlimscopeError where a step is not trained."""
    live = technique.complete(recipe.live)
    untrained = recipes.missing(model_id, live, spec)
    if untrained is not None:
        raise SlimscopeError(untrained.sentence)
    model, data = models.get_model(model_id, spec), testset.needed(keys.read_data(spec))
    sample = data.validation.stratified(curves.sample_size(model, data))
    measure = scans.measuring(model, Recipe(), data, sample, progress)
    row = curves.waited(point_key(model_id, live, spec), live, lambda: measure(live, progress), progress)
    if row["refused"]:
        raise SlimscopeError(row["refused"])
    return {**row, "technique": name_of(live), "stored": False}


def point_job(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Measure one recipe. Payload: model, recipe (key), data (spec). Answers with its row."""
    return measured(payload["model"], migrate.read(payload["recipe"]), payload["data"], progress)


def front_job(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Measure FEW points of each technique that does not train and has fewer. Payload: model, data (spec).

    Each point is kept as it is done; a technique that does not fit the model is refused, by name.
    """
    todo, refused = missing(courses(payload["model"], payload["data"])), {}
    for place, of in enumerate(todo):
        part = progress.part(place / len(todo), (place + 1) / len(todo))
        why = _measure(of, part)
        if why:
            refused[of.step.technique] = why
    return {"techniques": [of.step.technique for of in todo], "refused": refused, "how": scans.HOW}


def _measure(of: Course, progress: Progress) -> str:
    """Measure the points of a curve that are missing; why it has none, in a sentence, or nothing."""
    rows = list(_known(of, store.some(of.keys.values())).values())
    measure = curves.measuring(of, progress)
    while (value := _next(of, rows)) is not None:
        done = min(len(rows) / FEW, 1.0)
        rows.append(curves.row_at(of, value, measure, progress.part(done, done, recipes.untold)))
        progress(min(len(rows) / FEW, 1.0))
    worked = [row for row in rows if curve.is_point(row)]
    return "" if worked else next((row.get("refused", "") for row in rows), "")


def measured_on(model_id: str, of: Sequence[Course]) -> str:
    """The date (YYYY-MM-DD) of the newest point; that of the stored file where all points are stored."""
    days = [dates.stored(model_id), store.newest(key for each in of for key in each.keys.values())]
    return max(days)
