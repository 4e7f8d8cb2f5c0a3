"""What each ingredient of LeNet-300-100's record brings: the recipe with every choice of them.

Each choice is a recipe of its own, trained, written, decoded and measured: what begins alike is done once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from engine.data import sets
from engine.data.sets import Data
from engine.jobs import shipped
from engine.net import zoo
from engine.papers import record
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import ready, technique
from engine.recipe.run import apply
from engine.types import Bundle, Progress, Recipe, Step

NET, KIND = "lenet-300-100", "matrices"
NAMES: Mapping[str, str] = {  # `steps` has what is done without each
    "gradual": "gradual pruning",
    "grid": "training on the grid",
    "rate": "rate-aware rounding",
    "again": "training again",
    "trim": "trim",
    "teacher": "a teacher",
}
ALL = tuple(NAMES)
OWN = ("gradual", "grid", "trim")  # those of the record: the others may be added
AGAIN = 3  # epochs
FILES = ("number", "parent", *record.STEP_COLUMNS)  # a row for each file; the original is number 0


def steps(chosen: Collection[str], whole: ready.Steps = ready.RECORD[KIND]) -> list[Step]:
    """The steps of the record with these ingredients alone.

    What is not pruned gradually is pruned at once and trained as long; what is not trained on the grid is
    rounded to it; other steps are left out. With a teacher all trainings learn from the original as well.

    >>> [step.technique for step in steps(["gradual", "rate"])]
    ['prune_weights', 'prune_iteratively', 'quantize', 'entropy_penalty']
    """
    first, gradually, grid, trim = (Step(name, dict(own)) for name, own in whole)
    at_once = {} if "gradual" in chosen else {"schedule": "rounds", "rounds": 1}
    is_taught = "teacher" in chosen
    teacher = {"teacher": "original"} if is_taught else {}
    rounded = Step("quantize", {"bits": grid.settings["bits"], "granularity": "tensor"})
    again = Step(*ready.on_grid(is_taught, grid="own", epochs=AGAIN))
    return [
        first,
        Step(gradually.technique, {**gradually.settings, **at_once, **teacher}),
        Step(*ready.on_grid(is_taught, **grid.settings)) if "grid" in chosen else rounded,
        *([Step(*ready.BY_RATE)] if "rate" in chosen else []),
        *([again] if "again" in chosen else []),
        *([trim] if "trim" in chosen else []),
    ]


def choices() -> list[tuple[str, ...]]:
    """Every choice of ingredients."""
    picked = product((True, False), repeat=len(ALL))
    return [tuple(name for name, is_in in zip(ALL, each, strict=True) if is_in) for each in picked]


def run(net: str, whole: ready.Steps, seed: int, progress: Progress, folder: Path) -> Outcome:
    """Write, decode and measure the file of every step of every choice."""
    images, bundle = sets.load(zoo.entry(net).data), zoo.load(net)
    ways = {chosen: _starts(steps(chosen, whole)) for chosen in choices()}
    wanted = {_key(start): start for starts in ways.values() for start in starts}
    ends = [0.0, *record.ends([start[-1] for start in wanted.values()])]
    made, rows, numbers = {"": bundle}, [(0, -1, *record.row("original", bundle, images))], {"": 0}
    for number, (key, start) in enumerate(wanted.items(), 1):
        last, before = start[-1], _key(start[:-1])
        told = progress.part(ends[number - 1], ends[number], folder=folder / f"{number}-{last.technique}")
        made[key] = _stored(bundle, start, images, seed) or _applied(made[before], last, images, seed, told)
        numbers[key] = number
        title = technique.get(last.technique).title
        rows.append((number, numbers[before], *record.row(title, made[key], images)))
    progress(1.0)
    ended = [(", ".join(chosen), numbers[_key(starts[-1])]) for chosen, starts in ways.items()]
    tables = {
        "files": pd.DataFrame(rows, columns=FILES),
        "choices": pd.DataFrame(ended, columns=("with", "number")),
    }
    return Outcome(_figures(rows, dict(ended)), tables)


def _stored(whole: Bundle, start: Sequence[Step], images: Data, seed: int) -> Bundle | None:
    """What was trained for the record with the first seed: its ingredients give its own file."""
    found = shipped.get(whole, technique.complete(Recipe(tuple(start))), images) if seed == 0 else None
    return None if found is None else found[0]


def _applied(bundle: Bundle, step: Step, images: Data, seed: int, told: Progress) -> Bundle:
    return apply(bundle, record.seeded(step, seed), images, told)[0]


def _starts(whole: Sequence[Step]) -> list[tuple[Step, ...]]:
    return [tuple(whole[: end + 1]) for end in range(len(whole))]


def _key(start: Sequence[Step]) -> str:
    return "".join(f"{step.technique}{sorted(step.settings.items())}" for step in start)


def _figures(rows: Sequence[Sequence[Any]], ended: Mapping[str, int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for changed in (None, *ALL):
        row = rows[ended[", ".join(name for name in ALL if (name in OWN) != (name == changed))]]
        size, error = (row[FILES.index(name)] for name in ("bytes", "validation error %"))
        found |= {_named(changed, "bytes"): float(size), _named(changed, "validation error"): float(error)}
    return found


def _named(changed: str | None, what: str) -> str:
    """A figure of the record, or of the recipe that differs in one ingredient.

    >>> _named("grid", "bytes"), _named("teacher", "bytes"), _named(None, "bytes")
    ('bytes without training on the grid', 'bytes with a teacher', 'bytes')
    """
    if changed is None:
        return what
    return f"{what} {'without' if changed in OWN else 'with'} {NAMES[changed]}"


def files(seed: Mapping[str, Any], chosen: Collection[str]) -> list[Mapping[str, Any]]:
    """The files of a choice, from the original to the last, of what is stored of a seed."""
    tables = seed["tables"]
    ended = {row["with"]: row["number"] for row in tables["choices"]}
    number, found = ended[", ".join(name for name in ALL if name in chosen)], []
    while number >= 0:
        found.append(tables["files"][number])
        number = found[-1]["parent"]
    return found[::-1]


def judge(ours: Ours) -> str:
    """`reproduced` where each of the record's own pays: without it the file is larger, or errs more."""
    found = {name: value for name, (value,) in ours.items()}
    whats = ("bytes", "validation error")
    pays = [any(found[_named(name, what)] > found[what] for what in whats) for name in OWN]
    return "reproduced" if all(pays) else "not reached"


def declared() -> Paper:
    whole = ready.RECORD[KIND]
    listed = {
        name: [[step.technique, dict(step.settings)] for step in steps(set(OWN) ^ {name})] for name in ALL
    }
    return Paper(
        name=f"ingredients-{NET}",
        paper="The recipe of record-lenet-300-100, with every choice of its ingredients and three more",
        claim="Without any one of its ingredients the record of LeNet-300-100 is larger, or errs more.",
        claims=tuple(
            Claim(_named(name, what), None, unit, counted)
            for name in (None, *ALL)
            for what, unit, counted in (
                ("bytes", "B", "of the packed file"),
                ("validation error", "%", "of the net in the decoded file: wrong answers to 5,000 images"),
            )
        ),
        recipe={"net": NET, "steps": ready.as_data(whole), "changed": listed},
        seeds=(0,),  # the one whose file is stored
        rule="Without any one of them the file is larger, or its net's error on the validation images is "
        "higher, than with all.",
        judge=judge,
        run=partial(run, NET, whole),
    )


INGREDIENTS = declared()
