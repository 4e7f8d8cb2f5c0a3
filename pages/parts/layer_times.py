"""The time of each layer on this machine: measured by a job, dealt out as a budget, compared with the whole model."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from engine.figures.latency import layers
from engine.figures.latency.layers import LayerTimes
from engine.jobs import timings
from engine.types import Basis, Figure, SlimscopeError
from pages.parts import cached, figures, jobs, knobs, session, visitor
from pages.parts.figures import Tile
from pages.parts.fold import fold

NAME, TITLE = "mixed_precision", "Time of each layer on this machine"
WHAT = (
    "Each layer alone in ONNX Runtime, on floats and on 8-bit codes (weights and inputs), in turns. On codes, a "
    "layer rounds what enters it and gives floats: next to another one on codes it need not, so that sums are "
    "rather too long. Below 8 bits nothing is faster: narrower codes are multiplied as 8-bit ones, in the same time."
)
SUM = "the whole model's time on floats, less what each layer on codes saves by the table"
COLUMNS = {
    "layer": figures.Column("layer"),
    "floats": figures.Column("on floats, µs"),
    "floats_low": figures.Column("from"),
    "floats_high": figures.Column("to"),
    "codes": figures.Column("on 8-bit codes, µs"),
    "codes_low": figures.Column("from"),
    "codes_high": figures.Column("to"),
    "why": figures.Column("not on codes, because"),
}


def section() -> None:
    """A fold, but where the page's picture is the question for the times."""
    if not is_asked_for():
        fold(TITLE, "layer-times", inside)


def is_asked_for() -> bool:
    """Whether the budget is of time, and no times are known."""
    now = knobs.current(NAME).settings
    return now["limit"] == "time" and not now["times"]


def inside() -> None:
    st.caption(WHAT)
    if visitor.why_idle():
        return st.caption(visitor.why_idle())
    subject, before = session.subject(), knobs.before(NAME)
    if cached.is_large(subject):
        return st.caption("This model is large: `slimscope latency MODEL --layers` measures its layers.")
    job = jobs.latest("layer_times", recipe=before.key)
    found = timings.kept(cached.after(subject, before.key)[0])
    if job is None or not job.open:
        st.button(
            "Measure the layers" if found is None else "Measure again",
            key="time-layers",
            on_click=jobs.submit,
            args=("layer_times", TITLE),
            kwargs={"recipe": before.key},
            icon=":material/timer:",
        )
    if job is not None and job.state != "done":
        jobs.watch(job.id, lambda _: None)
    if found is not None:
        _shown(found)
    return None


def _shown(found: LayerTimes) -> None:
    now = knobs.current(NAME).settings
    is_same = now["times"] == found.table
    st.button(
        "Deal out this time",
        key="use-times",
        on_click=partial(knobs.change, NAME, limit="time", times=found.table),
        disabled=is_same and now["limit"] == "time",
        icon=":material/tune:",
        help="Puts these times into the recipe, so that it gives the same bits wherever it is opened.",
    )
    table = frame(found)
    named = {name: own for name, own in COLUMNS.items() if name != "why" or table["why"].any()}
    st.html(figures.table(table, named))
    how = found.rows[0].floats.how if found.rows else found.whole.how
    st.caption(
        f"Measured on: {found.processor}. {how[0].upper()}{how[1:]}. The whole model on floats takes "
        f"{figures.text(found.whole.value, 'ms')}: what is not in these layers is between them, and in each call."
    )
    if now["limit"] == "time" and now["times"]:
        if not is_same:
            st.caption("The times in this recipe were measured at another time, or elsewhere.")
        _compared(found)


def frame(found: LayerTimes) -> pd.DataFrame:
    """A row for each layer, in microseconds with their quartiles: columns COLUMNS."""
    rows = []
    for row in found.rows:
        spent = {"floats": row.floats, "codes": row.integers}
        values = {
            f"{name}{end}": value
            for name, time in spent.items()
            for end, value in zip(("", "_low", "_high"), _three(time), strict=True)
        }
        rows.append({"layer": row.layer, **values, "why": row.why})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _three(time: Figure | None) -> tuple[float, float, float]:
    if time is None or time.spread is None:
        return (float("nan"),) * 3
    return (1e3 * time.value, 1e3 * time.spread[0], 1e3 * time.spread[1])


def _compared(found: LayerTimes) -> None:
    """What the table predicts of the whole model beside what its ONNX file takes."""
    subject, recipe = session.subject(), knobs.through(NAME)
    try:
        with st.spinner("Writing the file, running it and timing it ..."):
            tried, report = cached.as_onnx(subject, recipe.key), cached.after(subject, recipe.key)[1][-1]
    except SlimscopeError as error:
        return st.info(str(error))
    first, now, pace = map(tried.figure, ("latency of the original", "latency", "speed-up"))
    rows = report.tables["layers"]
    bits = dict(zip(rows["layer"], rows["bits"].tolist(), strict=True))
    before = found.whole if len(recipe) > 1 or first is None else first
    guess = layers.predicted(recipe.steps[-1].settings["times"], bits, before.value)
    tiles = (
        Tile("Predicted time", Figure("predicted time", guess, "ms", Basis.MODELLED, SUM)),
        Tile("Measured time", now, "" if now is None else _quartiles(now)),
        Tile("Original, floats", first, "" if first is None else _quartiles(first)),
        Tile("Times as fast", pace, "" if pace is None else _quartiles(pace)),
    )
    st.html(figures.tiles(tiles))
    st.caption(tried.why)
    return None


def _quartiles(figure: Figure) -> str:
    assert figure.spread is not None
    return f"quartiles {figure.spread[0]:.3g} to {figure.spread[1]:.3g}"
