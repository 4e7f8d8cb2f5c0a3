"""Is it faster here? Every form of the model, timed in turns with the original, and why."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from engine.figures import latency
from engine.jobs import extras
from engine.types import Figure
from pages.parts import cached, figures, jobs, visitor

BATCHES = (1, 32)
AT_ONCE = 2.0  # seconds that a measurement may take without being asked for
# Of the seven columns: bars begin on one line, numbers are not broken, and the reason belongs to its form.
STYLES = ["border-bottom:0;text-align:left"] * 3 + ["border-bottom:0;white-space:nowrap"] * 4
COLOURS = {latency.TORCH: "#2f8fcf", latency.ONNX: "#009e73"}


def draw(subject: str, key: str) -> None:
    """Measured time of every form of this model beside the original, and one sentence each why."""
    batch = st.segmented_control(
        "Samples at once (batch)",
        BATCHES,
        default=BATCHES[0],
        required=True,
        key="latency-batch",
        help="One sample alone is what a person waits for; with 32, each weight that is read is used 32 times.",
    )
    if cached.is_large(subject):
        return _timed_by_job(subject, key, batch)
    wanted = (subject, key, batch)
    takes = cached.latency_takes(*wanted)
    if takes.value > AT_ONCE and st.session_state.get("latency-wanted") != wanted:
        st.markdown(
            "Each form runs many times, in turns with the others. With this model that takes a while."
        )
        label = f"Measure (about {takes.value:.0f} s)"
        st.button(label, on_click=_want, args=wanted, key="measure", icon=":material/timer:")
        return
    with st.spinner("Timing all forms in turns ..."):
        rows = cached.latency(*wanted)
    _show_forms(rows)
    again = {"on_click": cached.latency.clear, "args": wanted}
    st.button("Measure again", key="measure-again", icon=":material/refresh:", **again)


def _timed_by_job(subject: str, key: str, batch: int) -> None:
    """The same of a large model: its forms run too long for a page to wait."""
    job = jobs.about(visitor.owner(), "latency", subject, key, batch=batch)
    if job is not None and job.result is not None:
        _show_forms(extras.rows_of(job.result))
    if job is not None and not job.over:
        return jobs.watch(job.id, lambda _: None)
    st.button(
        "Measure in the background" if job is None else "Measure again",
        on_click=jobs.submit,
        args=("latency", "Latency of all forms"),
        kwargs={"recipe": key, "batch": batch},
        key="measure",
        icon=":material/timer:",
    )


def _show_forms(rows: Sequence[latency.Row]) -> None:
    st.html(_forms(rows))
    how = next(row.time.how for row in rows if row.time)
    st.caption(
        f"Time is the {how}. Times as fast: against the original in the same runtime, in the same rounds. Only forms "
        "that answer as the model itself does are timed. Measured on the processor of the machine that serves this page."
    )


def _want(*wanted: object) -> None:
    st.session_state["latency-wanted"] = wanted


def _forms(rows: Sequence[latency.Row]) -> str:
    """Two table rows for each form: its numbers with a bar for the time, and the reason."""
    longest = max(row.time.value for row in rows if row.time)
    titles = ("form", "runtime", "", "time", "quartiles in ms", "times as fast", "size")
    head = "".join(
        f'<th style="text-align:{"left" if i < 3 else "right"}">{t}</th>' for i, t in enumerate(titles)
    )
    body = "".join(_form(row, longest) for row in rows)
    return f'<div class="scroll"><table class="slim-table"><tr>{head}</tr>{body}</table></div>'


def _form(row: latency.Row, longest: float) -> str:
    if row.time is None:
        cells, mark = ["", "not timed", "", "", ""], ""
    else:
        width, ends = 80 * row.time.value / longest, row.time.spread or ()
        cells = [
            f'<span class="bar" style="width:{width:.1f}px;background:{COLOURS[row.runtime]}"></span>',
            _cell(row.time),
            " to ".join(f"{end:.3f}" for end in ends),
            _cell(row.speed_up) if row.speed_up else "reference",
            _cell(row.size) if row.size else "",
        ]
        mark = f' data-figure="latency" data-value="{row.time.value!r}"'
    named = [f"<b>{escape(row.form)}</b>", escape(row.runtime), *cells]
    line = "".join(f'<td style="{style}">{cell}</td>' for style, cell in zip(STYLES, named, strict=True))
    why = f'<td class="text" style="max-width:none;padding-top:0" colspan="7">{escape(row.why)}</td>'
    return f"<tr{mark}>{line}</tr><tr data-why>{why}</tr>"


def _cell(figure: Figure) -> str:
    """The value; pointing at it says how it was obtained."""
    how = escape(f"{figure.basis}: {figure.how}", quote=True)
    return f'<span title="{how}">{escape(figures.text(figure.value, figure.unit))}</span>'
