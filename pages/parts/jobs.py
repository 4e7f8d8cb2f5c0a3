"""Background work on screen: a run button with an estimate, progress, live curves, pause, cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from engine.jobs.job import Job
from engine.jobs.manager import Manager
from engine.net import zoo
from engine.recipe import migrate, technique
from engine.types import Bundle, Recipe, Report, SlimscopeError
from pages.parts import cached, charts, session, visitor
from pages.parts.pictures import step_sizes, tried_designs

WHOLE = "The model as this page shows it"
ICONS = {
    "waiting": ":material/hourglass_empty:",
    "running": ":material/autorenew:",
    "paused": ":material/pause_circle:",
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "cancelled": ":material/cancel:",
    "replaced": ":material/fast_forward:",
    "interrupted": ":material/warning:",
}


@st.cache_resource(show_spinner=False)
def manager() -> Manager:
    """The one queue of this server."""
    return Manager()


def submit(kind: str, title: str, **payload: object) -> None:
    """Queue work on the model in view; what is wrong with it is said on the page."""
    whole = {"model": session.model(), "data": visitor.scaling(), **payload}
    try:
        manager().submit(visitor.owner(), kind, whole, title)
    except SlimscopeError as error:
        st.session_state["problem"] = str(error)


def measure_all(
    owner: str, subject: str, key: str, title: str = "Accuracy on the whole test set"
) -> Job | None:
    """Measure a recipe on the whole test set."""
    return ensure(owner, "accuracy", title, subject, key)


def ensure(owner: str, kind: str, title: str, subject: str, key: str, **more: object) -> Job | None:
    """The job of this kind on a recipe, queued where it is not; what the title was asked for before is dropped.

    One that failed, or that its owner stopped, is left so. None where the queue is full, or nobody asks: "".
    """
    if not owner:
        return None
    model, spec = cached.parts(subject)
    payload = {"model": model, "data": spec, "recipe": key, **more}
    for job in manager().list(owner):
        if job.title == title and job.open and job.payload != payload:
            manager().supersede(owner, job.id)
    found = newest(owner, kind, payload)
    if found is None or found.state in ("replaced", "interrupted", "done"):
        with suppress(SlimscopeError):  # a full queue: it is asked for again
            return manager().get(owner, manager().submit(owner, kind, payload, title))
    return found


def listed() -> list[Job]:
    """The visitor's jobs that the page speaks of, newest first: what was replaced or nobody asked for is not."""
    known = manager().list(visitor.owner())
    return [job for job in known if job.state != "replaced" and not job.unasked]


def wake() -> None:
    """Draw the whole page where work was queued that the sidebar does not watch yet."""
    if not st.session_state.get("watching") and any(job.open for job in listed()):
        st.rerun()


def latest(kind: str, **payload: object) -> Job | None:
    """The visitor's newest job of this kind on the model in view whose payload holds these values."""
    wanted = {"model": session.model(), "data": visitor.scaling(), **payload}
    return newest(visitor.owner(), kind, wanted)


def about(owner: str, kind: str, subject: str, key: str, **more: object) -> Job | None:
    """The owner's newest job of this kind on a recipe."""
    model, spec = cached.parts(subject)
    return newest(owner, kind, {"model": model, "data": spec, "recipe": key, **more})


def newest(owner: str, kind: str, wanted: dict[str, object]) -> Job | None:
    """The owner's newest job of this kind whose payload holds these values."""
    for job in manager().list(owner):
        if job.kind == kind and all(job.payload.get(k) == v for k, v in wanted.items()):
            return job
    return None


def progress(job: Job, place: str = "page") -> None:
    """Bar, remaining time, and buttons to pause, resume and cancel; or how the job ended."""
    if not job.over:
        st.progress(min(max(job.progress, 0.0), 1.0), f"{job.title}: {_words(job)}")
        with st.container(horizontal=True):
            if job.open:
                _button("Pause", ":material/pause:", manager().pause, job, place)
            else:
                _button("Resume", ":material/play_arrow:", manager().resume, job, place)
            _button("Cancel", ":material/stop:", manager().cancel, job, place)
        if job.error:
            st.caption(f"{job.error[0].upper()}{job.error[1:]}.")
    elif job.state == "failed":
        st.error(f"{job.title} failed: {job.error}")
    elif job.state in ("cancelled", "replaced", "interrupted"):
        st.warning(f"{job.title} was {job.state}. {job.error}".strip(), icon=ICONS[job.state])
        _button("Resume", ":material/replay:", manager().resume, job, place)


def _words(job: Job) -> str:
    if job.state == "waiting":
        return "waiting for a free core"
    left = "" if job.remaining is None else f", about {_duration(job.remaining)} left"
    return f"{'paused at ' if job.state == 'paused' else ''}{job.progress:.0%}{left}"


def _button(name: str, icon: str, act: Callable[[str, str], object], job: Job, place: str) -> None:
    st.button(
        name,
        key=f"{name.lower()}-{place}-{job.id}",
        on_click=_asked,
        args=(act, job.id),
        icon=icon,
    )


def _asked(act: Callable[[str, str], object], job_id: str) -> None:
    with suppress(SlimscopeError):  # it ended while the button was on its way
        act(visitor.owner(), job_id)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def curve(job: Job) -> None:
    """The live series of a training: loss and validation accuracy against the epoch; of a search its designs."""
    tried_designs.live(job.series, job.id)
    rows = pd.DataFrame([dict(row) for row in job.series])
    if rows.empty or "loss" not in rows:
        if "design" not in rows:
            st.caption("The curves appear as soon as the first batches are through.")
        return
    by = "run" if "run" in rows else None
    if by:
        steps = migrate.read(job.payload["recipe"]).live.steps
        rows["run"] = [_run(steps[int(row["step"]) - 1].technique, row) for row in job.series]
    left, right = st.columns(2)
    loss = charts.lines(rows, "epoch", "loss", by, titles=("epoch", "training loss"), height=230)
    left.plotly_chart(loss, key=f"loss-{job.id}", config={"displayModeBar": False})
    if "validation accuracy" in rows:
        done = rows.dropna(subset=["validation accuracy"])
        accuracy = charts.lines(
            done,
            "epoch",
            "validation accuracy",
            by,
            titles=("epoch", "validation accuracy"),
            height=230,
            percent=True,
        )
        right.plotly_chart(accuracy, key=f"accuracy-{job.id}", config={"displayModeBar": False})
    step_sizes.live(job.series, job.id)


def _run(name: str, row: Mapping[str, float]) -> str:
    """What a technique's runs are called, as its rows have numbers only; one that has no runs by its title."""
    if "run" not in row:
        return technique.get(name).title
    told = technique.get(name).series[int(row["run"])]
    return f"{told}, round {row['round']:g}" if "round" in row else told


def reached(subject: str, recipe: Recipe, place: Any = st) -> tuple[Bundle, tuple[Report, ...]] | None:
    """The model after a recipe; or None, with a run button or the reason in `place`.

    A large model comes as it was at first, unless a step acts on it as a whole: then a job does that first.
    """
    if cached.is_bare_and_large(subject) or (cached.is_large(subject) and not cached.needs_whole(recipe)):
        return cached.original(subject), ()
    try:
        return cached.after(subject, recipe.live.key)
    except cached.Pending as pending:
        with place.container():
            whole_card(subject, pending.recipe)
    except cached.Untrained as missing:
        with place.container():
            run_card(missing.recipe)
    except SlimscopeError as error:
        place.error(str(error))
    return None


def run_card(recipe: Recipe) -> None:
    """Offer to train what a recipe needs, with an estimate; while it runs, follow it."""
    step = recipe.steps[-1]
    title = technique.get(step.technique).title
    job = latest("apply", recipe=recipe.key)
    with st.container(border=True):
        st.markdown(f"**{title} has to be trained** with these settings before its figures can be shown.")
        if job is None or job.over:
            words = estimate(step.technique, dict(step.settings))
            st.button(
                f"Train ({words})",
                type="primary",
                key=f"run-{step.technique}",
                on_click=submit,
                args=("apply", title),
                kwargs={"recipe": recipe.key},
            )
        if job is not None:
            watch(job.id, curve)


def whole_card(subject: str, recipe: Recipe) -> None:
    """A large model is compressed by a job: its progress, until the page can be drawn with it."""
    job = ensure(visitor.owner(), "write", WHOLE, subject, recipe.key)
    title = technique.get(recipe.steps[-1].technique).title if recipe.steps else "This"
    with st.container(border=True):
        st.markdown(f"**{title} works on the whole model**, which is large: that goes on in the background.")
        if job is not None:
            watch(job.id, lambda _: None)


def watch(job_id: str, draw: Callable[[Job], None], place: str = "page") -> None:
    """Keep a job's progress and what `draw` makes of it alive; when it is over, the whole page is drawn again."""
    is_open = manager().get(visitor.owner(), job_id).open

    @st.fragment(run_every=1.0 if is_open else None)
    def alive() -> None:
        job = manager().get(visitor.owner(), job_id)
        if is_open != job.open:
            st.rerun()
        progress(job, place)
        draw(job)

    alive()


def estimate(name: str, settings: Mapping[str, Any]) -> str:
    """How long training takes here, from the time an epoch took when the zoo was trained."""
    model, declared = session.model(), technique.get(name).cost
    if declared is None:
        return "a moment"
    cost = declared(settings)
    if cost.student and model in zoo.ENTRIES:
        model = zoo.entry(model).student or model
    if model not in zoo.trained():
        return "time unknown"
    card = zoo.card(model)
    epoch = card["wall seconds"] / card["plan"]["epochs"]
    whole = int(str(card["data"]).rsplit("-", 4)[1])
    part = min(cost.images or whole, 5000 if "cifar" in str(card["data"]) else whole) / whole
    return f"about {_duration(max(5.0, float(epoch) * cost.epochs * part + 4))}"


def panel() -> None:
    """All of the visitor's jobs, newest first, in the sidebar."""
    known = listed()
    is_open = any(job.open for job in known)
    at_work = {job.id for job in known if job.open}
    st.session_state["watching"] = is_open
    if not known:
        return

    @st.fragment(run_every=1.0 if is_open else None)
    def alive() -> None:
        found = listed()
        ended = any(job.over for job in found if job.id in at_work)
        if ended or is_open != any(job.open for job in found):
            st.rerun()  # the page may show what was found
        at_work.update(job.id for job in found if job.open)
        title = f"Jobs ({sum(job.open for job in found)} running)"
        shown = st.expander(title, icon=":material/work_history:", key="jobs", on_change="rerun")
        if shown.open:  # what nobody sees would cost the browser a slider's move each second
            with shown:
                for job in found[:8]:
                    _row(job)

    alive()


def _row(job: Job) -> None:
    if not job.over or job.state in ("interrupted", "cancelled"):
        progress(job, "sidebar")
    else:
        st.caption(f"{ICONS[job.state]} {job.title}: {job.state}. {job.error}")
