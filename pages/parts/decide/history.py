"""What was tried: in this visit, and by the visitor's jobs, those that failed too."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from engine.jobs import fronts
from engine.jobs.job import Job
from engine.recipe import migrate, technique
from engine.types import Recipe, SlimscopeError
from pages.parts import cached, curve_chart, fold, jobs, session, visitor
from pages.parts.decide import points
from pages.parts.decide.points import View

COLUMNS = {
    "bytes": st.column_config.NumberColumn("file in bytes", format="localized"),
    "accuracy": st.column_config.TextColumn("validation accuracy or perplexity"),
}


def draw(view: View) -> None:
    """The fold with both tables."""
    fold.fold("What was tried", "tried", lambda: _draw(view))


def _draw(view: View) -> None:
    st.markdown("**In this visit, on this model**")
    st.dataframe(visit(view), hide_index=True, key="tried-visit", column_config=COLUMNS)
    st.markdown("**Work in the background, of all your models**")
    found = work()
    if found.empty:
        return st.caption("None yet.")
    st.dataframe(found, hide_index=True, key="tried-jobs")
    return None


def visit(view: View) -> pd.DataFrame:
    """What was kept or tried in this session on the model in view, the newest first."""
    rows = []
    for what, key in dict.fromkeys(_recipes()):
        row = view.of.get(key) or _known(view.subject, key) or {}
        known = {name: row.get(name) for name in ("bytes", "accuracy", "n")}
        if row.get("accuracy") is not None:
            known["accuracy"] = curve_chart.percent(row["accuracy"])
        rows.append({"what": what, "recipe": points.label(key), **known})
    return pd.DataFrame(rows, columns=["what", "recipe", "bytes", "accuracy", "n"])


def _recipes() -> Iterable[tuple[str, str]]:
    """(what it was, key) of each recipe that was kept and each step that a page tried, the newest first."""
    model = session.model()
    yield "my recipe", session.recipe().key
    for work in (st.session_state["work"], *(work for work, _ in reversed(st.session_state["history"]))):
        yield from _trials(work, model)
        if model in work.recipes:
            yield "my recipe", technique.complete(work.recipes[model]).key


def _trials(work: Any, model: str) -> list[tuple[str, str]]:
    found = [trial.step for (of, _), trial in work.trials.items() if of == model]
    return [("tried on its page", technique.complete(Recipe((step,))).key) for step in reversed(found)]


def _known(subject: str, key: str) -> points.Row | None:
    with suppress(SlimscopeError):
        model, spec = cached.parts(subject)
        return fronts.point(model, migrate.read(key), spec)
    return None


def work() -> pd.DataFrame:
    """One row for each of the visitor's jobs that was asked for, the newest first: what it was, and how it ended."""
    return pd.DataFrame([_job(job) for job in jobs.listed()])


def _job(job: Job) -> dict[str, Any]:
    return {
        "what": job.title,
        "model": visitor.title(str(job.payload.get("model", ""))),
        "recipe": _recipe(job),
        "how it ended": job.state if job.over else f"{job.state}, {job.progress:.0%}",
        "why": job.error,
    }


def _recipe(job: Job) -> str:
    try:
        return points.label(str(job.payload["recipe"]))
    except (KeyError, SlimscopeError):
        return ""
