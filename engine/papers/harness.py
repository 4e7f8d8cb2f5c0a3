"""Reproductions of published results: what a paper says, what our runs found, and what that means.

A reproduction is a `Paper`: the claim, its figures, a function that runs one seed, and the rule
by which the seeds together are judged. Runs alone write assets/papers; a finished seed is never
redone, a half-done one goes on where it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from engine.data import sets as datasets
from engine.types import Figure, Progress, SlimscopeError

RESULTS = datasets.ASSETS / "papers"
TEST_ERRORS = "wrong answers to the 10,000 test images; nothing is chosen by them"
SEEN_ERRORS = (
    "wrong answers to the 10,000 test images; errors of earlier tries were seen before this recipe was chosen"
)


class Busy(SlimscopeError):
    """Another process runs this seed."""


@dataclass(frozen=True)
class Claim:
    """A figure of the paper: its value there (None: not stated), its unit and what is counted."""

    name: str
    value: float | None
    unit: str
    counted: str


@dataclass(frozen=True)
class Outcome:
    """What one seed found: a number for each of the paper's claims, and tables."""

    figures: Mapping[str, float]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


Ours = Mapping[str, Sequence[float]]  # claim -> one number for each seed


@dataclass(frozen=True)
class Paper:
    """A published result and how it is run again.

    `recipe` is JSON data that says everything that was chosen; results of another recipe do not count.
    Where tries before it showed test errors, `chosen after` in it says which. `judge` sees all seeds'
    numbers and answers `reproduced`, `beaten` or `not reached`; `rule` says how in words.
    """

    name: str
    paper: str
    claim: str
    claims: tuple[Claim, ...]
    recipe: Mapping[str, Any]
    seeds: tuple[int, ...]
    rule: str
    judge: Callable[[Ours], str]
    run: Callable[[int, Progress, Path], Outcome]
    start: str = ""  # the claim that is the error of the net before it is compressed


# ---------------------------------------------------------------- files


def results_path(paper: Paper) -> Path:
    """The file with what the seeds found."""
    return RESULTS / f"{paper.name}.json"


def working_folder(paper: Paper, seed: int) -> Path:
    """Where a half-done seed keeps its checkpoints."""
    return datasets.cache_folder() / "papers" / f"{paper.name}-s{seed}"


def results(paper: Paper) -> dict[int, dict[str, Any]]:
    """Seed -> its record, for the seeds that were run with the recipe as it is now."""
    path = results_path(paper)
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["recipe"] != as_json(paper.recipe):
        return {}
    return {seed: content["seeds"][str(seed)] for seed in paper.seeds if str(seed) in content["seeds"]}


def _recipe_on_disk(paper: Paper) -> Any:
    path = results_path(paper)
    return json.loads(path.read_text())["recipe"] if path.exists() else None


def as_json(recipe: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(recipe)))


def _write(paper: Paper, records: Mapping[int, Mapping[str, Any]]) -> None:
    content = {
        "name": paper.name,
        "paper": paper.paper,
        "claim": paper.claim,
        "claims": [vars(claim) for claim in paper.claims],
        "rule": paper.rule,
        "recipe": dict(paper.recipe),
        "seeds": {str(seed): records[seed] for seed in sorted(records)},
    }
    path = results_path(paper)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


# ---------------------------------------------------------------- running


def run(paper: Paper, seed: int, progress: Progress) -> dict[str, Any]:
    """The record of one seed, run now unless it was before.

    Seeds may run side by side, each in a process of its own. Raises SlimscopeError for a seed that the paper
    does not name, or where another recipe's results have come meanwhile, Busy for one that another process
    runs, and Cancelled through `progress`.
    """
    if seed not in paper.seeds:
        raise SlimscopeError(f"seed {seed} is not one of {paper.name}: allowed are {_listed(paper.seeds)}")
    with _locked(_lock(paper, seed), wait=False):
        known = results(paper)
        if seed in known:
            return known[seed]
        folder, before = _prepared(paper, seed), _recipe_on_disk(paper)
        with _clock(folder / "seconds", progress) as (timed, seconds):
            outcome = paper.run(seed, timed, folder)
        record = {
            "figures": dict(outcome.figures),
            "tables": {name: rows_of(table) for name, table in outcome.tables.items()},
            "wall seconds": round(seconds(), 3),
            "machine": machine(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        with _locked(_lock(paper), wait=True):
            if _recipe_on_disk(paper) not in (before, as_json(paper.recipe)):
                path = results_path(paper)
                raise SlimscopeError(f"{path} got another recipe meanwhile: seed {seed} is not written")
            _write(paper, {**results(paper), seed: record})
        shutil.rmtree(folder)
        return record


def spread_out(name: str, figure: Figure) -> dict[str, float]:
    """A measured figure in a table's row: its value, and the ends of its interval.

    >>> from engine.types import Basis
    >>> spread_out("change", Figure("change", 0.5, "share", Basis.MEASURED, "of a draw", (0.4, 0.7)))
    {'change': 0.5, 'change low': 0.4, 'change high': 0.7}
    """
    assert figure.spread is not None
    return {name: figure.value, f"{name} low": figure.spread[0], f"{name} high": figure.spread[1]}


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON data; what is not known of a row (NaN) is None.

    >>> rows_of(pd.DataFrame({"layer": ["fc"], "rank": [float("nan")]}))
    [{'layer': 'fc', 'rank': None}]
    """
    rows = table.to_dict("records")
    return [{str(name): None if value != value else value for name, value in row.items()} for row in rows]


def _prepared(paper: Paper, seed: int) -> Path:
    """The working folder of a seed, emptied where what lies in it is of another recipe."""
    folder, recipe = working_folder(paper, seed), json.dumps(dict(paper.recipe))
    note = folder / "recipe.json"
    if folder.exists() and (not note.exists() or note.read_text() != recipe):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(recipe)
    return folder


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[None]:
    """Hold a file that one process at a time can hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy(f"{path.stem} is running in another process: wait for it") from None
        yield


def _lock(paper: Paper, seed: int | None = None) -> Path:
    """The file that is held while a seed runs, or while a record is added to the paper's results."""
    name = paper.name if seed is None else f"{paper.name}-s{seed}"
    return datasets.cache_folder() / "papers" / f"{name}.lock"


def is_running(paper: Paper) -> bool:
    """Whether a process on this machine runs a seed of it now."""
    for seed in paper.seeds:
        try:
            with _lock(paper, seed).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            continue
    return False


@contextmanager
def _clock(path: Path, progress: Progress) -> Iterator[tuple[Progress, Callable[[], float]]]:
    """Progress that keeps the seconds spent so far in a file, and what they are, resumptions included."""
    before = float(path.read_text()) if path.exists() else 0.0
    started = time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - started

    def report(fraction: float, row: Mapping[str, float] | None) -> None:
        path.write_text(str(seconds()))
        progress.report(fraction, row)

    yield Progress(report, progress.cancelled), seconds


def machine() -> dict[str, Any]:
    """What the run was timed on: the kind of processor, cores, threads. No names of hosts or people.

    With other `instructions` sums are rounded in another order: a seed comes back nearly, not bit for bit.
    """
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


# ---------------------------------------------------------------- what it means


def ours(paper: Paper) -> dict[str, list[float]]:
    """Claim -> one number for each seed that is done."""
    done = results(paper).values()
    return {claim.name: [record["figures"][claim.name] for record in done] for claim in paper.claims}


def status(paper: Paper) -> str:
    """`reproduced`, `beaten`, `not reached`, or how far it has come."""
    done, of = len(results(paper)), len(paper.seeds)
    if done == of:
        return paper.judge(ours(paper))
    counted = f"({done} of {of} seeds)"
    if is_running(paper):
        return f"running {counted}"
    begun = done or any(working_folder(paper, seed).exists() for seed in paper.seeds)
    return f"unfinished {counted}" if begun else "not run"


def describe(paper: Paper) -> dict[str, Any]:
    """A reproduction as JSON-ready data: each published figure beside the median and range of ours."""
    found = ours(paper)
    return {
        "name": paper.name,
        "paper": paper.paper,
        "claim": paper.claim,
        "rule": paper.rule,
        "status": status(paper),
        "start": _better_start(paper, found),
        "seeds": {"done": list(results(paper)), "needed": list(paper.seeds)},
        "recipe": dict(paper.recipe),
        "wall seconds": [record["wall seconds"] for record in results(paper).values()],
        "figures": [
            {
                "name": claim.name,
                "published": claim.value,
                "unit": claim.unit,
                "counted": claim.counted,
                "median": statistics.median(found[claim.name]) if found[claim.name] else None,
                "spread": [min(found[claim.name]), max(found[claim.name])] if found[claim.name] else None,
            }
            for claim in paper.claims
        ],
    }


def _better_start(paper: Paper, found: Ours) -> str:
    """How much better than the paper's our nets were at first; empty where they were not."""
    published = next((claim.value for claim in paper.claims if claim.name == paper.start), None)
    if published is None or not found[paper.start]:
        return ""
    middle = statistics.median(found[paper.start])
    if middle >= published:
        return ""
    return f"from a better start: {middle:.2f} % before compressing, in the paper {published:.2f} %"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
