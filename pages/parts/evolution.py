"""Bits of layers searched by NSGA-II on measured values: every design a point, beside the exact solver's front."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from engine.jobs import evolution
from engine.jobs.evolution import EXACT, POPULATION, TRIED
from engine.recipe import sweep
from engine.types import Recipe
from pages.parts import charts, clicked, jobs, knobs, visitor
from pages.parts.fold import fold

NAME, TITLE = "mixed_precision", "Search of bits (NSGA-II)"
TRIALS = (40, 100, 200)
SETTINGS = ("sensitivity", "allowed", "granularity", "range", "samples", "seed", "leave_out")
COLOURS = {EXACT: charts.REMOVED, TRIED: charts.KEPT}
WORDS = {EXACT: "exact solver, on added sensitivity", TRIED: "tried by NSGA-II"}

Row = Mapping[str, Any]


def section() -> None:
    fold("Search on what is measured: NSGA-II beside the exact solver", "evolution", _inside)


def _inside() -> None:
    st.caption(
        "The exact solver adds up what layers lose alone. NSGA-II (Deb 2002) asks the model: each design is a real file "
        f"whose accuracy is measured on validation samples, and {POPULATION} designs at a time are crossed and changed. It "
        "knows no sensitivity, and pays for each design with a measurement."
    )
    if why := evolution.why_not() or visitor.why_idle():
        return st.info(why)
    settings = knobs.current(NAME).settings
    trials = st.segmented_control(
        "Designs", TRIALS, default=TRIALS[0], required=True, key="trials", help="How many designs are tried."
    )
    payload = {
        "recipe": knobs.before(NAME).key,
        "settings": {name: settings[name] for name in SETTINGS},
        "trials": trials,
        "seed": settings["seed"],
    }
    job = jobs.latest("evolve", **payload)
    if job is None or (job.over and job.state != "done"):
        st.button(
            f"Search {trials} designs",
            key="evolve",
            on_click=jobs.submit,
            args=("evolve", TITLE),
            kwargs=payload,
            icon=":material/genetics:",
            help="In the background, seeded; every design is kept, and none is measured twice.",
        )
    if job is not None:
        jobs.watch(job.id, _drawn)
    return None


def _drawn(job: jobs.Job) -> None:
    rows = [dict(row) for row in job.series if "kind" in row]
    if not rows:
        return st.caption("The first design is on its way.")
    event = st.plotly_chart(
        chart(rows),
        key="evolution",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=said(rows),
    )
    clicked.take(event, [row["recipe"] for row in rows])
    st.caption(
        f"{said(rows)} A click on a point makes it your recipe: a Quantize step with these bits. Chosen on validation "
        "samples: the test set has the last word."
    )
    return None


def said(rows: Sequence[Row]) -> str:
    r"""How the two compare, in sentences.

    >>> def row(kind, size, accuracy):
    ...     return {"kind": kind, "bytes": size, "accuracy": accuracy, "low": 0.75, "high": 0.85, "n": 500}
    >>> print(said([row("exact", 10, 0.9), row("tried", 9, 0.9), row("tried", 20, 0.8)]).replace(". ", ".\n"))
    2 designs tried on 500 samples, which tell accuracies within about 5.0 points.
    1 of the 1 of the exact solver is beaten by one of them, 1 of theirs by one of its.
    """
    exact, tried = ([row for row in rows if row["kind"] == kind] for kind in (EXACT, TRIED))
    if not tried:
        return f"{len(exact)} designs of the exact solver; those of NSGA-II follow."
    lost = [
        sum(any(beats(other, row) for other in others) for row in own)
        for own, others in ((exact, tried), (tried, exact))
    ]
    within = 50 * statistics.median(row["high"] - row["low"] for row in rows)
    return (
        f"{len(tried)} designs tried on {rows[0]['n']:,} samples, which tell accuracies within about {within:.1f} points. "
        f"{lost[0]} of the {len(exact)} of the exact solver {'is' if lost[0] == 1 else 'are'} beaten by one of them, "
        f"{lost[1]} of theirs by one of its."
    )


def beats(one: Row, other: Row) -> bool:
    """Whether a design is as small and as accurate as another one, and better in one of the two."""
    size, accuracy = one["bytes"] - other["bytes"], one["accuracy"] - other["accuracy"]
    return bool(size <= 0 <= accuracy and (size or accuracy))


def chart(rows: Sequence[Row]) -> charts.Chart:
    """Accuracy against bytes: tried designs as points, the front of each kind as a line."""
    return charts.chart(
        [trace for kind in (TRIED, EXACT) for trace in _traces(rows, kind)],
        "file size in bytes (measured)",
        "validation accuracy (measured)",
        340,
        xaxis={"tickformat": "~s"},
        yaxis={"tickformat": ".0%"},
    )


def _traces(rows: Sequence[Row], kind: str) -> list[charts.Chart]:
    numbers = [i for i, row in enumerate(rows) if row["kind"] == kind]
    own, colour = [rows[i] for i in numbers], COLOURS[kind]
    best = sweep.front([row["bytes"] for row in own], [row["accuracy"] for row in own])
    front = sorted(
        (row for row, is_best in zip(own, best, strict=True) if is_best), key=lambda row: row["bytes"]
    )
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [row["bytes"] for row in front],
        "y": [row["accuracy"] for row in front],
        "line": {"color": colour, "width": 2, "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    points = {
        "type": "scatter",
        "mode": "markers",
        "name": WORDS[kind],
        "x": [row["bytes"] for row in own],
        "y": [row["accuracy"] for row in own],
        "customdata": numbers,
        "text": [hover(row) for row in own],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "size": 9 if kind == EXACT else 6,
            "color": colour,
            "symbol": "diamond" if kind == EXACT else "circle",
        },
        "opacity": 1.0 if kind == EXACT else 0.7,
    }
    return [line, points]


def hover(row: Row) -> str:
    """What a point says under the pointer."""
    bits = Recipe.from_key(row["recipe"]).steps[-1].settings["per_layer"]
    widths = " ".join(str(own) for own in bits.values())
    return (
        f"bits {widths}<br>{row['bytes']:,.0f} bytes, accuracy {100 * row['accuracy']:.2f} % "
        f"({100 * row['low']:.2f} to {100 * row['high']:.2f}, n = {row['n']:,})"
    )
