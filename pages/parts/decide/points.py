"""What the page decides between: points that came with slimscope or were measured, and the recipe in hand.

All are measured on the same validation samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import streamlit as st

from engine.figures import scores
from engine.jobs import curves, fronts
from engine.jobs.job import Job
from engine.net import kinds
from engine.recipe import curve, front, migrate, sweep, technique
from engine.types import Progress, Recipe, SlimscopeError
from pages.parts import cached, curve_chart, figures, jobs, link, session, spoken, view, visitor

QUICK = 2e10  # units of work (`kinds.work`) that a page may wait for: about half a second
HERE = "Your recipe's accuracy and size"
ORIGINAL = "The original"

Row = front.Row


@dataclass(frozen=True)
class View:
    """The points of a model: one row for each recipe."""

    subject: str
    rows: list[Row]
    key: str  # of the recipe as it is kept
    measured: str  # the day of the newest point
    problem: str = ""  # why the recipe in hand has no point

    @cached_property
    def of(self) -> dict[str, Row]:
        return {row["recipe"]: row for row in self.rows}

    @property
    def here(self) -> Row | None:
        return self.of.get(self.key)

    @property
    def original(self) -> Row | None:
        return self.of.get(Recipe().key)

    @cached_property
    def on_front(self) -> set[str]:
        """The recipes that no other dominates."""
        best = sweep.front([row["bytes"] for row in self.rows], [row["accuracy"] for row in self.rows])
        return {row["recipe"] for row, is_best in zip(self.rows, best, strict=True) if is_best}

    @property
    def is_empty(self) -> bool:
        """Whether only the original and the recipe in hand are known."""
        return not set(self.of) - {self.key, Recipe().key}

    @cached_property
    def is_loss(self) -> bool:
        """Whether scores are minus a loss: the model goes on with a text, and is judged by its perplexity."""
        if self.rows:
            return scores.is_loss(self.rows[0]["accuracy"])
        held = cached.images(self.subject)
        return held is not None and held.test.is_read_on

    @property
    def what(self) -> str:
        return "perplexity" if self.is_loss else "accuracy"

    @cached_property
    def n(self) -> int:
        return int(self.rows[0]["n"]) if self.rows else 0


def look(subject: str) -> View:
    """All points that are known of the model, and that of the recipe in hand where it can be measured at once."""
    of = cached.fronts(subject)
    key = technique.complete(view.now().live).key
    known = fronts.points(of)
    here, problem = _here(subject, key, {row["recipe"] for row in known})
    seen = st.session_state.setdefault("decide-seen", {}).setdefault(subject, {})
    if here is not None:
        seen[key] = here
    rows = front.distinct([*known, *seen.values(), *_swept(known or list(seen.values()))])
    return View(subject, rows, key, fronts.measured_on(cached.parts(subject)[0], of), problem)


def _here(subject: str, key: str, known: Iterable[str]) -> tuple[Row | None, str]:
    """The point of the recipe in hand, if it is not among those that are known; or why it has none."""
    model, spec = cached.parts(subject)
    if key in known:
        return None, ""
    try:
        row = fronts.point(model, Recipe.from_key(key), spec)
        if row is None and cached.is_large(subject):
            return None, "this model is large, and measuring it takes minutes"
        if row is None and _takes(subject) <= QUICK:
            row = fronts.measured(model, Recipe.from_key(key), spec, Progress())
    except SlimscopeError as error:
        return None, str(error)
    return row, ""


def _takes(subject: str) -> float:
    """Units of work for one point."""
    model, data = cached.original(subject), cached.images(subject)
    assert data is not None
    return curves.sample_size(model, data) * kinds.work(model)


def _swept(known: list[Row]) -> list[Row]:
    """The points of the visitor's sweeps of this model, where they are measured on as many samples."""
    wanted = {"model": session.model(), "data": visitor.scaling()}
    found: list[Row] = []
    for job in jobs.manager().list(visitor.owner()):
        if job.kind == "sweep" and all(job.payload.get(k) == v for k, v in wanted.items()):
            found += [_named(row) for row in job.series]
    return [row for row in found if known and row["n"] == known[0]["n"]]


def _named(row: Row) -> Row:
    return {**row, "technique": fronts.name_of(Recipe.from_key(row["recipe"])), "stored": False}


def measure_here(view: View) -> Job | None:
    """The job that measures the recipe in hand, where that takes too long for a page to wait."""
    if view.here is not None or view.problem:
        return None
    job = jobs.ensure(visitor.owner(), "point", HERE, view.subject, view.key)
    return None if job is None or job.state == "done" else job


# ---------------------------------------------------------------- in words


def label(key: str) -> str:
    """A recipe in words: its steps with their main settings, and what else is not at its default."""
    steps = migrate.read(key).live.steps
    return " + ".join(map(_step, steps)) or ORIGINAL


def _step(step: Any) -> str:
    known, brief = technique.get(step.technique), link.brief(Recipe((step,))).steps[0].settings
    main = known.main(step.settings)
    others = {name: value for name, value in brief.items() if name != main}
    return spoken.title(step) + (f" ({spoken.said(known, others)})" if others else "")


def group(name: str) -> str:
    """What a row's technique is called on the page."""
    if name in ("", fronts.SEVERAL):
        return "several steps" if name else "original"
    return technique.get(name).title


def size(row: Row) -> str:
    return figures.text(row["bytes"], "B")


def accuracy(row: Row) -> str:
    return f"{curve_chart.percent(row['accuracy'])} ({curve_chart.interval(row)})"


def lost(row: Row) -> str:
    """The change against the original in words: "0.1 points lost (a tie)", or "1.2 % more perplexity"."""
    if scores.is_loss(row.get("accuracy", 0.0)):
        share = scores.relative(row["change"])
        words = f"{100 * abs(share):.2g} % {'more' if share > 0 else 'less'} perplexity"
        return ("nothing lost" if share == 0 else words) + (" (a tie)" if curve.is_tie(row) and share else "")
    points = f"{100 * abs(row['change']):.2g}"
    words = f"{points} {'point' if points == '1' else 'points'} {'lost' if row['change'] < 0 else 'won'}"
    unsettled = "" if row["n"] >= front.SETTLES else f" (not settled: n = {row['n']:,})"
    return ("nothing lost" if row["change"] == 0 else words) + (
        " (a tie)" if front.is_tie(row) else unsettled
    )


def marks(view: View, advice: front.Advice | None, here: str = "you are here") -> dict[str, tuple[str, str]]:
    """Recipe -> (what it is called on a plot, where that is written), for those that the page speaks of.

    The original lies at the right edge, and the other two may lie close to each other.
    """
    found: dict[str, tuple[str, str]] = {}
    for row, words, place in (
        (view.here, here, "top right"),
        (view.original, "original", "top left"),
        (advice and advice.best, "recommended", "bottom right"),
    ):
        if row is not None:
            before = found.get(row["recipe"])
            found[row["recipe"]] = (f"{before[0]}, {words}" if before else words, place)
    return found


def below(view: View) -> int:
    """How many points lie below what the chart shows at first."""
    floor = max((row["accuracy"] for row in view.rows), default=0.0) - curve.ZOOM
    return sum(row["accuracy"] < floor for row in view.rows)


def refusals(job: Job) -> str:
    """Which techniques a job could not measure, and why."""
    found: dict[str, str] = {}
    with suppress(TypeError, KeyError):
        found = dict(job.result["refused"])  # type: ignore[index]
    return "; ".join(f"{group(name)}: {why.rstrip('.')}" for name, why in found.items())
