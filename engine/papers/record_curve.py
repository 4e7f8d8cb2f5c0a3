"""LeNet-300-100's record along its main setting: bytes against errors, every file decoded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from engine.data import sets
from engine.net import zoo
from engine.papers import harness, record
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import ready
from engine.types import Progress, Step

NET, KIND = "lenet-300-100", "matrices"
SPARSITIES = (0.95, 0.97, 0.9825, 0.988, 0.992)
COLUMNS = ("sparsity", "bytes", "validation error %", "test error %")


def at(sparsity: float, whole: ready.Steps) -> tuple[Step, ...]:
    """The steps of the record, pruned gradually to another share of zeros."""
    steps = [Step(name, dict(own)) for name, own in whole]
    pruned = Step(steps[1].technique, {**steps[1].settings, "sparsity": sparsity})
    return (steps[0], pruned, *steps[2:])


def run(net: str, whole: ready.Steps, seed: int, progress: Progress, folder: Path) -> Outcome:
    """Write, decode and measure the file at each share of zeros."""
    images, rows = sets.load(zoo.entry(net).data), []
    figures: dict[str, float] = {}
    for number, sparsity in enumerate(SPARSITIES):
        told = progress.part(number / len(SPARSITIES), (number + 1) / len(SPARSITIES))
        kept = folder / f"{sparsity:g}"
        *_, (bundle, _) = record.made(zoo.load(net), at(sparsity, whole), seed, images, told, kept)
        _, size, _, *errors = record.row("", bundle, images)
        rows.append((sparsity, size, *errors))
        figures |= {named("bytes", sparsity): float(size), named("test error", sparsity): errors[1]}
    return Outcome(figures, {"curve": pd.DataFrame(rows, columns=COLUMNS)})


def named(what: str, sparsity: float) -> str:
    """
    >>> named("bytes", 0.97)
    'bytes at 97 % zeros'
    """
    return f"{what} at {100 * sparsity:g} % zeros"


def between(points: Sequence[tuple[float, float]], error: float) -> float:
    """Bytes at an error on the line through points of (error, bytes), whose bytes are on a log scale.

    Infinite below the smallest error; the bytes of the last point above the largest.

    >>> round(between([(1.0, 8000.0), (2.0, 2000.0)], 1.5))
    4000
    """
    line = sorted(points)
    if error < line[0][0]:
        return math.inf
    for (left, more), (right, less) in itertools.pairwise(line):
        if error <= right:
            share = (error - left) / (right - left) if right > left else 1.0
            return math.exp((1 - share) * math.log(more) + share * math.log(less))
    return line[-1][1]


def judge(ours: Ours) -> str:
    """`reproduced`: at the error of each published file the curve needs no more bytes."""
    found = {name: value for name, (value,) in ours.items()}
    points = [(found[named("test error", x)], found[named("bytes", x)]) for x in SPARSITIES]
    is_below = [between(points, error) <= size for _, size, _, error in record.OTHERS[NET]]
    return "reproduced" if all(is_below) else "not reached"


def declared() -> Paper:
    whole = ready.RECORD[KIND]
    others = "; ".join(f"{whose} {size:,} B at {error:g} %" for whose, size, _, error in record.OTHERS[NET])
    return Paper(
        name=f"record-curve-{NET}",
        paper=f"The recipe of record-{NET} with other shares of zeros. Files of others, every byte counted: "
        f"{others}",
        claim="At the errors of a published file of LeNet-300-100 the record's recipe needs no more bytes.",
        claims=tuple(
            Claim(named(what, sparsity), None, unit, counted)
            for sparsity in SPARSITIES
            for what, unit, counted in (
                ("bytes", "B", "of the packed file"),
                ("test error", "%", "of the net in the decoded file: " + harness.SEEN_ERRORS),
            )
        ),
        recipe={
            "net": NET,
            "steps": ready.as_data(whole),
            "sparsity of prune_iteratively": list(SPARSITIES),
        },
        seeds=(0,),
        rule="At the error of each published file whose every byte is counted the curve, straight between "
        "its points with bytes on a log scale, has no more bytes.",
        judge=judge,
        run=partial(run, NET, whole),
    )


CURVE = declared()
