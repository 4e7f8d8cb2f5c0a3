"""Sensitivity: one layer at a time is compressed, the others stay; a background job per technique."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts import charts, jobs, knobs, session


def section(name: str, setting: str, values: list[float], unit: str) -> None:
    """Button, progress and curves of a sensitivity scan, on validation samples."""
    st.subheader("Which layers are sensitive?", anchor=False)
    if session.why_idle():
        st.caption(session.why_idle())
        return
    payload = {
        "recipe": knobs.before(name).key,
        "technique": name,
        "setting": setting,
        "values": values,
        "settings": {
            k: v
            for k, v in knobs.current(name).settings.items()
            if k not in ("leave_out", "per_layer", setting)
        },
    }
    job = jobs.latest("sensitivity", **payload)
    if job is None or not job.open:
        st.button(
            "Scan each layer by itself" if job is None else "Scan again",
            key=f"scan-{name}",
            on_click=jobs.submit,
            args=("sensitivity", f"Sensitivity to {setting}"),
            kwargs=payload,
            icon=":material/troubleshoot:",
            help="Compresses one layer at a time and measures accuracy on 1,000 validation samples.",
        )
    if job is None:
        return

    def drawn(now: jobs.Job) -> None:
        rows = pd.DataFrame([dict(row) for row in now.series])
        if rows.empty:
            return
        rows = rows.dropna(subset=["accuracy"])
        figure = charts.lines(
            rows,
            "value",
            "accuracy",
            "layer",
            titles=(unit, "accuracy on validation"),
            error=("low", "high"),
            percent=True,
        )
        st.plotly_chart(
            figure,
            key=f"scan-chart-{name}",
            alt="Accuracy of the net when one layer is compressed, per layer",
        )
        with st.expander("The same as a table"):
            st.dataframe(rows, hide_index=True, key=f"scan-table-{name}")

    jobs.watch(job.id, drawn)
