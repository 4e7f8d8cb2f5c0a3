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
    "teacher": "teacher",
    "gradual": "gradual pruning",
    "grid": "training on the grid",
    "rate": "rate-aware rounding",
    "again": "training again",
    "trim": "trim",
}
ALL = tuple(NAMES)
FILES = ("number", "parent", *record.STEP_COLUMNS)  # a row for each file; the original is number 0


def steps(chosen: Collection[str], whole: ready.Steps = ready.RECORD[KIND]) -> list[Step]:
    """The steps of the record with these ingredients alone.

    Without a teacher the labels alone teach; what is not pruned gradually is pruned at once and trained as
    long; what is not trained on the grid is rounded to it. Other steps are left out.

    >>> [step.technique for step in steps(["gradual", "rate"])]
    ['prune_weights', 'prune_iteratively', 'quantize', 'entropy_penalty']
    """
    first, gradually, grid, rate, again, trim = (Step(name, dict(own)) for name, own in whole)
    more = {} if "gradual" in chosen else {"schedule": "rounds", "rounds": 1}
    is_taught = "teacher" in chosen
    pruned = {**gradually.settings, **more, "teacher": "original" if is_taught else "none"}
    rounded = Step("quantize", {"bits": grid.settings["bits"], "granularity": "tensor"})
    return [
        first,
        Step(gradually.technique, pruned),
        _on_grid(grid, is_taught) if "grid" in chosen else rounded,
        *([rate] if "rate" in chosen else []),
        *([_on_grid(again, is_taught)] if "again" in chosen else []),
        *([trim] if "trim" in chosen else []),
    ]


def _on_grid(step: Step, is_taught: bool) -> Step:
    """A training on the grid; without a teacher it is the same one on labels alone."""
    if is_taught:
        return step
    own = {k: v for k, v in step.settings.items() if k in technique.get("quantize_aware").knobs}
    return Step("quantize_aware", own)


def choices() -> list[tuple[str, ...]]:
    """Every choice of ingredients, all of them first."""
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
    """What was trained for the record with the first seed: all ingredients give the record's own file."""
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
    for left_out in (None, *ALL):
        row = rows[ended[", ".join(name for name in ALL if name != left_out)]]
        size, error = (row[FILES.index(name)] for name in ("bytes", "validation error %"))
        found |= {_named(left_out, "bytes"): float(size), _named(left_out, "validation error"): float(error)}
    return found


def _named(left_out: str | None, what: str) -> str:
    """
    >>> _named("grid", "bytes"), _named(None, "bytes")
    ('bytes without training on the grid', 'bytes')
    """
    return what if left_out is None else f"{what} without {NAMES[left_out]}"


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
    """`reproduced` where each ingredient pays: without it the file is larger, or errs more on validation."""
    found = {name: value for name, (value,) in ours.items()}
    whats = ("bytes", "validation error")
    pays = [any(found[_named(name, what)] > found[what] for what in whats) for name in ALL]
    return "reproduced" if all(pays) else "not reached"


def declared() -> Paper:
    whole = ready.RECORD[KIND]
    listed = {
        name: [[step.technique, dict(step.settings)] for step in steps(set(ALL) - {name})] for name in ALL
    }
    return Paper(
        name=f"ingredients-{NET}",
        paper="The recipe of record-lenet-300-100, with every choice of its six ingredients",
        claim="Every ingredient of the record of LeNet-300-100 pays.",
        claims=tuple(
            Claim(_named(name, what), None, unit, counted)
            for name in (None, *ALL)
            for what, unit, counted in (
                ("bytes", "B", "of the packed file"),
                ("validation error", "%", "of the net in the decoded file: wrong answers to 5,000 images"),
            )
        ),
        recipe={"net": NET, "steps": [[name, dict(own)] for name, own in whole], "without": listed},
        seeds=(0,),  # the one whose file is stored
        rule="Without any one of them the file is larger, or its net's error on the validation images is "
        "higher, than with all.",
        judge=judge,
        run=partial(run, NET, whole),
    )


INGREDIENTS = declared()
