"""Curves of accuracy against bytes along one setting: worked out coarse to fine, kept, or stored in assets.

A point is a sweep's row under a sweep's key (`engine.jobs.scans`), so that it is measured once, whoever asks.
Curves of the zoo's models lie in assets/results/curves; `slimscope curves` writes them.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.data.sets import ASSETS, Data
from engine.file import packfile
from engine.jobs import keys, layerwise, models, recipes, scans, store, testset
from engine.net import kinds
from engine.recipe import curve, migrate, technique
from engine.types import Bundle, Cancelled, Progress, Recipe, SlimscopeError, Step

VERSION = 1  # of the stored files
FOLDER = ASSETS / "results" / "curves"
MOST_POINTS, FEW_POINTS = 24, 7  # of a curve, and of a large model's
WORK = 1e11  # units of work (`kinds.work`) that a point may take: a few seconds
SIZES = (500, 1000, 2000, 5000)  # validation samples
WINDOWS = (50, 100, 200)  # of a text that is read on: each has many tokens
LARGEST = 20_000_000  # weights of a model whose curve is worked out unasked

STORED = ("bytes", "accuracy", "low", "high", "n", "change", "change_low", "change_high")

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Course:
    """A curve: step `number` (from 1) of a complete recipe, on a model, along one setting.

    The setting has its default in the recipe, so that one curve has one recipe, wherever its slider is.
    It has at most `limit` points.
    """

    model_id: str
    spec: str
    model: Bundle
    data: Data
    recipe: Recipe
    number: int
    setting: str
    limit: int = MOST_POINTS

    @property
    def step(self) -> Step:
        return self.recipe.steps[self.number - 1]

    @cached_property
    def values(self) -> list[Any]:
        """The stops that the curve can have points at."""
        return curve.values_of(self.step.technique, self.setting, self.model)

    @cached_property
    def n(self) -> int:
        """How many validation samples a point is measured on: all, or as many as take a few seconds."""
        return sample_size(self.model, self.data)

    @cached_property
    def trains(self) -> bool:
        """Whether another value of the setting has to be trained."""
        later = Recipe(self.recipe.steps[self.number - 1 :]).live
        return any(technique.get(step.technique).trains for step in later)

    @property
    def live_number(self) -> int:
        """The number of the step among those that are not switched off."""
        return len(Recipe(self.recipe.steps[: self.number]).live)

    @property
    def most(self) -> int:
        return min(self.limit, FEW_POINTS if layerwise.is_large(self.model) else MOST_POINTS)

    @property
    def stamp(self) -> str:
        """What determines the numbers of the curve: a stored one with another stamp is out of date."""
        what = (self.setting, self.n, packfile.BYTES)
        return keys.stamp("curve", self.model, self.recipe.live, self.data, *what)

    def at(self, value: Any) -> Recipe:
        """The complete, live recipe with another value of the setting; None: the original."""
        if value is None:
            return Recipe()
        step = Step(self.step.technique, {**self.step.settings, self.setting: value})
        steps = (*self.recipe.steps[: self.number - 1], step, *self.recipe.steps[self.number :])
        return technique.complete(Recipe(steps).live)

    def is_trained(self, value: Any) -> bool:
        """Whether nothing has to be trained for a point."""
        return not self.trains or recipes.missing(self.model_id, self.at(value), self.spec) is None

    def key(self, value: Any) -> str:
        """The key of a point in the store."""
        return scans.point_key(self.model, self.at(value), self.data, self.n)

    @cached_property
    def keys(self) -> dict[Any, str]:
        """The keys of all points that it may have; that of None is the original's."""
        return {value: self.key(value) for value in (None, *self.values)}


def sample_size(model: Bundle, data: Data) -> int:
    """How many validation samples of the data a model's points are measured on."""
    sizes = WINDOWS if data.validation.is_read_on else SIZES
    affordable = [n for n in sizes if n <= WORK / kinds.work(model)]
    return min(max(affordable, default=sizes[0]), len(data.validation))


def course(model_id: str, recipe: Recipe, spec: str, number: int, setting: str) -> Course:
    """The curve of a setting of step `number`. Raises SlimscopeError where that is not there, or no data."""
    data, whole = testset.needed(keys.read_data(spec)), technique.complete(recipe)
    if not 1 <= number <= len(whole) or setting not in whole.steps[number - 1].settings:
        raise SlimscopeError(f"setting {setting!r} is not one of step {number} of this recipe")
    model = models.get_model(model_id, spec)
    return Course(model_id, spec, model, data, normal(whole, number, setting), number, setting)


def normal(recipe: Recipe, number: int, setting: str) -> Recipe:
    """The recipe with step `number` switched on and a setting of it at its default."""
    step = recipe.steps[number - 1]
    default = technique.get(step.technique).defaults[setting]
    changed = Step(step.technique, {**step.settings, setting: default})
    return Recipe((*recipe.steps[: number - 1], changed, *recipe.steps[number:]))


def known(of: Course, now: Any) -> list[Row]:
    """The points that are there, `now` the present value: the original first, then by value.

    Nothing is worked out.
    """
    found = {row["value"]: row for row in stored(of)}
    wanted = of.keys if now in of.keys else {**of.keys, now: of.key(now)}
    kept = store.some(wanted.values())
    found |= {
        value: {**kept[key], "value": value, "refused": ""} for value, key in wanted.items() if key in kept
    }
    return sorted(found.values(), key=_order)


def missing(of: Course, rows: Iterable[Row], now: Any, look_up: bool = False) -> list[Any]:
    """The value to work out next, the original (None) and the present one `now` first; empty at the end.

    Where a step trains, only what is trained already is worked out: the present value, and with `look_up`,
    which takes a second, all others.
    """
    there = {row["value"]: row for row in rows}
    for value in (None, now, *(of.values if of.trains and look_up else ())):
        if value not in there and (value is None or of.is_trained(value)):
            return [value]
    if of.trains:
        return []
    value = curve.next_value(of.values, there.values(), of.most)
    return [] if value is None else [value]


def why_not(of: Course) -> str:
    """Why this curve is not worked out unasked, in a sentence; empty where it is."""
    size = sum(math.prod(parameter.shape) for parameter in of.model.params.values())
    if size > LARGEST:
        return f"With {size:,} weights, each point takes minutes: the curve is not worked out by itself."
    return ""


def curve_job(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Work out the points of a curve, the present one first, then coarse to fine; each is kept as it is done.

    Payload: model, recipe (key; its value of the setting is the present one), data (spec), step (from 1),
    setting.
    """
    recipe = migrate.read(payload["recipe"])
    of = course(payload["model"], recipe, payload["data"], payload["step"], payload["setting"])
    now = recipe.steps[of.number - 1].settings[of.setting]
    rows, measure = known(of, now), measuring(of, progress)
    for row in _worked_out(of, rows, now, lambda value, part: row_at(of, value, measure, part), progress):
        progress(min(len(rows) / (of.most + 1), 1.0), {"bytes": row["bytes"], "accuracy": row["accuracy"]})
    refused = next((row["refused"] for row in rows if row["refused"]), "")
    return {"points": len(rows), "refused": refused, "how": scans.HOW}


Measured = Callable[[Any, Progress], Row]  # the row of a value


def _worked_out(of: Course, rows: list[Row], now: Any, point: Measured, progress: Progress) -> Iterator[Row]:
    """Add what is missing to the rows, each given as it is done."""
    while left := missing(of, rows, now, look_up=True):
        done = min(len(rows) / (of.most + 1), 1.0)
        rows.append(point(left[0], progress.part(done, done, recipes.untold)))
        yield rows[-1]


def measuring(of: Course, progress: Progress) -> Callable[[Recipe, Progress], Row]:
    """What measures the recipes of a course (`scans.measuring`)."""
    sample = of.data.validation.stratified(of.n)
    shared = technique.complete(Recipe(of.recipe.steps[: of.number - 1]).live)
    untrained = recipes.missing(of.model_id, shared, of.spec)
    if untrained is not None:
        raise SlimscopeError(untrained.sentence)
    return scans.measuring(of.model, shared, of.data, sample, progress)


def _refused(value: Any, why: str) -> Row:
    return {"recipe": "", **scans.EMPTY, "bytes": None, "value": value, "refused": why}


def row_at(of: Course, value: Any, measure: Callable[[Recipe, Progress], Row], progress: Progress) -> Row:
    """The point at a value, measured and kept, or as another process leaves it; `refused` says why."""
    recipe = of.at(value)
    return {**waited(of.key(value), recipe, lambda: measure(recipe, progress), progress), "value": value}


def waited(key: str, recipe: Recipe, compute: Callable[[], Row], progress: Progress) -> Row:
    """As `scans.remembered`, but what another process is at is waited for."""
    while (row := scans.remembered(key, recipe, compute)) is None:
        progress(0.0)  # raises Cancelled
        time.sleep(0.02)
    return {"bytes": None, **row}


# ---------------------------------------------------------------- stored in assets


@functools.lru_cache(maxsize=16)
def _read(path: Path, time_ns: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def stored_curves(model_id: str, folder: Path | None = None) -> dict[str, Any]:
    """What is stored of a model: stamp -> curve. Empty where there is no file, or one of another version."""
    path = (folder or FOLDER) / f"{model_id}.json"
    if not model_id.replace("-", "").isalnum() or not path.is_file():
        return {}
    found = _read(path, path.stat().st_mtime_ns)
    return {one["stamp"]: one for one in found["curves"]} if found["version"] == VERSION else {}


def stored(of: Course) -> list[Row]:
    """The stored points of a curve; none where the file is of other settings, weights or formats."""
    found = stored_curves(of.model_id).get(of.stamp)
    return [] if found is None else [{**row, "refused": ""} for row in found["rows"]]


def alone(model_id: str, spec: str, name: str) -> Course | None:
    """The curve of a technique by itself, at its defaults, along its main setting.

    None where it has none, and where the technique can't work on the model.
    """
    setting = curve.main_setting(name, technique.get(name).defaults)
    if setting is None:
        return None
    found = course(model_id, Recipe((technique.step(name),)), spec, 1, setting)
    return None if technique.get(name).why_not(found.model) else found


def made(of: Course, progress: Progress) -> dict[str, Any]:
    """All points of a curve, each measured anew, as they are stored; refused ones are left out."""
    measure = measuring(of, progress)

    def point(value: Any, part: Progress) -> Row:
        try:
            row = measure(of.at(value), part)
            return {"value": value, **{name: row[name] for name in STORED}}
        except Cancelled:
            raise
        except SlimscopeError as error:
            return _refused(value, str(error))

    now = of.step.settings[of.setting]
    rows = list(_worked_out(of, [], now, point, progress))
    points = [row for row in rows if row["accuracy"] is not None]
    about = {"technique": of.step.technique, "settings": dict(of.step.settings), "setting": of.setting}
    return {**about, "n": of.n, "stamp": of.stamp, "rows": sorted(points, key=_order)}


def _order(row: Row) -> tuple[bool, Any]:
    return row["value"] is not None, row["value"] or 0


def file_text(model_id: str, found: Iterable[Mapping[str, Any]]) -> str:
    """A model's curves as the text of its file, one point a line."""
    head = {"version": VERSION, "model": model_id, "how": scans.HOW}
    curves = [json.dumps({**one, "rows": []}).removesuffix("]}") + _lines(one["rows"]) for one in found]
    text = json.dumps({**head, "curves": []}).removesuffix("]}")
    return f"{text}\n{','.join(curves)}\n]}}\n"


def _lines(rows: Iterable[Row]) -> str:
    return "\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]}"
