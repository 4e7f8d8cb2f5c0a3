"""The recovery race: fine-tuning from several prunings side by side, with a control, each a job of its own."""

from __future__ import annotations

from contextlib import suppress

import pandas as pd
import streamlit as st

from engine.jobs.job import Job
from engine.recipe import technique
from engine.tensor import masks
from engine.types import Recipe, SlimscopeError, Step
from pages.parts import cached, charts, jobs, knobs, session, visitor
from pages.parts.fold import fold

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
DONE = "All are trained or in training"
CHANCE = "chance"  # the control: random weights are removed


def section() -> None:
    """A fold: who takes part, a button that starts them all, and their curves in one chart."""
    fold("Recovery race", "race", _inside)


def _inside() -> None:
    st.caption(
        "Several prunings are fine-tuned alike, from the values that each has left. What matters is not how far "
        "accuracy falls, but how much of it comes back, and whether the right weights went: chance is the control."
    )
    if visitor.why_idle():
        st.caption(visitor.why_idle())
        return
    shares = st.pills(
        "Sparsities in the race",
        SPARSITIES,
        default=(0.8, 0.9, 0.98),
        selection_mode="multi",
        format_func=lambda share: f"{100 * share:g} %",
        key="race-sparsities",
        help="Each is a pruning of its own, followed by the fine-tuning step as it is set above.",
    )
    control = st.toggle(
        "And one by chance",
        True,
        key="race-control",
        help="The largest of these shares once more, with random weights removed in place of the smallest.",
    )
    runners = {f"{100 * share:g} %": entered(share) for share in sorted(shares)}
    if control and shares:
        runners[f"{100 * max(shares):g} %, {CHANCE}"] = entered(max(shares), "random")
    known = {name: jobs.latest("apply", recipe=recipe.key) for name, recipe in runners.items()}
    waiting = [name for name, job in known.items() if job is None or job.state in ("cancelled", "failed")]
    st.button(
        f"Train {len(waiting)} of {len(runners)}" if waiting else DONE if runners else "Choose at least one",
        key="race",
        on_click=_start,
        args=({name: runners[name] for name in waiting},),
        disabled=not waiting,
        icon=":material/flag:",
    )
    _follow({name: job for name, job in known.items() if job is not None}, runners)


def entered(sparsity: float, score: str | None = None) -> Recipe:
    """What comes before pruning, the pruning with this sparsity, and the fine-tuning as it is set."""
    prune, tune = knobs.current("prune_weights"), knobs.current("finetune")
    other = {"by": "sparsity", "sparsity": sparsity} | ({} if score is None else {"score": score})
    if prune.settings["granularity"] not in masks.UNITS:  # of N:M, N and M are the sparsity
        other["granularity"] = "element"
    steps = (Step(prune.technique, {**prune.settings, **other}), Step(tune.technique, tune.settings))
    return technique.complete(Recipe((*knobs.before("prune_weights").steps, *steps)))


def _start(runners: dict[str, Recipe]) -> None:
    for name, recipe in runners.items():
        jobs.submit("apply", f"Race, {name}", recipe=recipe.key)


def _follow(known: dict[str, Job], runners: dict[str, Recipe]) -> None:
    is_open = any(job.open for job in known.values())

    @st.fragment(run_every=1.0 if is_open else None)
    def alive() -> None:
        now = {name: jobs.manager().get(visitor.owner(), job.id) for name, job in known.items()}
        if is_open != any(job.open for job in now.values()):
            st.rerun()
        rows = [curve(job, runners[name]).assign(run=name) for name, job in now.items()]
        drawn = [each for each in rows if len(each)]
        if drawn:
            figure = charts.lines(
                pd.concat(drawn),
                "epoch",
                "validation accuracy",
                "run",
                titles=("epochs of fine-tuning", "validation accuracy"),
                percent=True,
            )
            st.plotly_chart(
                figure, key="race-chart", alt="Validation accuracy of each pruning while it is fine-tuned"
            )
        for job in now.values():
            if job.state != "done":
                jobs.progress(job, "race")

    alive()


def curve(job: Job, recipe: Recipe) -> pd.DataFrame:
    """Validation accuracy after each epoch: of the trained model, or as far as its job has come."""
    with suppress(SlimscopeError):
        return cached.after(session.subject(), recipe.key)[1][-1].tables["curve"]
    rows = pd.DataFrame([dict(row) for row in job.series])
    return rows.dropna(subset=["validation accuracy"]) if "validation accuracy" in rows else pd.DataFrame()
