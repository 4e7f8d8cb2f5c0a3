"""Vary one step of the recipe: many values of one or two of its settings, each a real file and an accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from engine.figures import scores
from engine.jobs.job import Job
from engine.recipe import sweep, technique
from engine.recipe.knobs import Choice, Knob, Slider
from engine.types import Recipe, Step
from pages.parts import cached, charts, clicked, fold, jobs, overall, session
from pages.parts.decide.points import View

HOW_MANY = 8


def draw(view: View) -> None:
    """The fold, open where a sweep of this model was run."""
    job = jobs.latest("sweep")
    title = "Vary one step of my recipe"
    fold.fold(title, "vary", lambda: _draw(view, job), expanded=job is not None)


def _draw(view: View, job: Job | None) -> None:
    left, right = st.columns([1, 2.6], gap="medium")
    with left:
        payload = _controls(view, job)
    with right:
        if job is not None:
            jobs.watch(job.id, _shown)
        elif payload:
            st.info(
                "Nothing has been swept yet: press Run. Points appear as they are measured, and stay if you cancel.",
                icon=":material/query_stats:",
            )


def _controls(view: View, job: Job | None) -> dict[str, Any]:
    """Which step, which settings, which values, and Run; empty where there is nothing to vary."""
    live = {i: step for i, step in enumerate(session.recipe(), 1) if step.on}
    if not live:
        st.info("The recipe is empty. Add a step on another page, or start with pruning.")
        start = Recipe((technique.step("prune_weights"),))
        st.button("Start with pruning", on_click=session.put, args=(start,), key="start-pruning")
        return {}
    number = st.selectbox(
        "Step to vary",
        list(live),
        format_func=lambda i: f"{i}. {technique.get(live[i].technique).title}",
        key="sweep-step",
        help="The other steps stay as they are.",
    )
    vary = _values(view.subject, live[number])
    if vary is None:
        st.info(
            f"{technique.get(live[number].technique).title} has no setting to vary as it stands: choose another step."
        )
        return {}
    payload = {"recipe": session.recipe().key, "step": number, "vary": vary, **_samples(view)}
    _run(payload, job)
    return payload


def _samples(view: View) -> dict[str, int]:
    """As many samples as the points above are measured on, so that they can be compared."""
    return {"samples": view.n} if view.n else {}


def _run(payload: Mapping[str, Any], job: Job | None) -> None:
    vary = payload["vary"]
    st.button(
        f"Run {math.prod(map(len, vary.values()))} recipes",
        type="primary",
        key="run-sweep",
        disabled=not vary or (job is not None and job.open),
        on_click=jobs.submit,
        args=("sweep", f"Sweep of {', '.join(vary)}"),
        kwargs=payload,
        icon=":material/play_arrow:",
    )
    if job is not None and any(job.payload.get(name) != value for name, value in payload.items()):
        st.caption("The chart shows the last sweep; the settings on the left have changed since.")


def _values(subject: str, step: Step) -> dict[str, list[Any]] | None:
    """The values of each setting that is varied; None where the step has none."""
    known = technique.get(step.technique)
    usable = {n: k for n, k in known.knobs.items() if n != "seed" and k.visible(step.settings)}
    sliders = [n for n, k in usable.items() if isinstance(k, Slider)]
    names = [*sliders, *(n for n, k in usable.items() if isinstance(k, Choice))]
    if not names:
        return None
    chosen = st.multiselect(
        "Settings to vary",
        names,
        names[:1],
        max_selections=2,
        key=f"vary-{step.technique}",
        format_func=lambda n: known.knobs[n].label or n,
        help="One or two; two give every pair.",
    )
    return {name: _some(subject, step.technique, name, known.knobs[name]) for name in chosen}


def _some(subject: str, name: str, setting: str, knob: Knob) -> list[Any]:
    """All options of a choice, or some stops of a slider within a range."""
    if isinstance(knob, Choice):
        return list(knob.options)
    assert isinstance(knob, Slider)
    stops = knob.stops(cached.original(subject))
    label, ends = knob.label or setting, (stops[0], stops[-1])
    low, high = st.select_slider(label, stops, ends, key=f"range-{name}-{setting}", help=knob.help)
    key = f"count-{name}-{setting}"
    count = st.number_input(f"Values of {label.lower()}", 2, 40, HOW_MANY, key=key)
    return spread([stop for stop in stops if low <= stop <= high], int(count))


def spread(stops: Sequence[Any], count: int) -> list[Any]:
    """About `count` of the stops, evenly spaced, ends included.

    >>> spread([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    places = sorted({round(i * (len(stops) - 1) / max(count - 1, 1)) for i in range(count)})
    return [stops[i] for i in places]


# ---------------------------------------------------------------- what was found


def _shown(job: Job) -> None:
    """The chart of a sweep, which takes over the recipe of a point that is clicked, its table and its files."""
    table = sweep.table([dict(row) for row in job.series])
    if table.empty:
        return st.caption("The first point is on its way.")
    points = table[table["accuracy"].notna()].reset_index(drop=True)
    names = list(job.payload["vary"])
    figure = overall.tradeoff(points, [hover(row, names) for row in points.to_dict("records")])
    event = st.plotly_chart(
        figure,
        key="tradeoff",
        on_select="rerun",
        selection_mode="points",
        config={
            "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "slimscope-tradeoffs"},
            "displaylogo": False,
        },
        alt="Accuracy or perplexity against file size, one point per recipe",
    )
    clicked.take(event, points["recipe"].tolist())
    told = pd.DataFrame([scores.readable(row) for row in table.to_dict("records")])
    _files(told, figure)
    with st.expander("The same as a table", expanded=False):
        st.dataframe(told, hide_index=True, key="sweep-table")
    return None


def hover(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """What a point of the chart says when the mouse is over it."""
    said = "<br>".join(
        f"{name.replace('_', ' ')} {row[name]}" for name in names if name in row and not pd.isna(row[name])
    )
    return (
        f"{said or 'the original'}<br>{row['bytes']:,.0f} bytes, {scores.name(row['accuracy'])} {scores.text(row['accuracy'], 2)} "
        f"({scores.interval(row['low'], row['high'], 2)}, n = {row['n']:,.0f})"
    )


def _files(table: pd.DataFrame, figure: charts.Chart) -> None:
    csv, html, hint = st.columns(3)
    csv.download_button(
        "CSV",
        lambda: table.to_csv(index=False),
        "slimscope-tradeoffs.csv",
        "text/csv",
        on_click="ignore",
        width="stretch",
        key="get-csv",
    )
    html.download_button(
        "HTML",
        lambda: charts.standalone(figure),
        "slimscope-tradeoffs.html",
        "text/html",
        on_click="ignore",
        width="stretch",
        key="get-html",
        help="One file that opens without a network",
    )
    hint.caption("PNG: the camera at the chart's upper right. A click on a point makes it the recipe.")
