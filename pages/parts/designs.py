"""What the Compact page shows of one layer: connections, reach, costs and measured time of each design."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from engine.figures import compact
from engine.figures.compact import STANDARD, TITLES, Layer, Row
from engine.figures.latency import designs as latency
from engine.figures.latency import stopwatch
from engine.types import Bundle, SlimscopeError
from pages.parts import cached, figures, frame, pictures
from pages.parts.figures import Column, caption
from pages.parts.lesson import Lesson
from pages.parts.pictures import connections

SPEED = 1e10  # multiply-adds in a second, to say how long a measurement takes
COSTS = {
    "design": Column("design"),
    "parameters": Column("parameters"),
    "macs": Column("MACs", "MAC"),
    "fewer": Column("times fewer", "times"),
    "intensity": Column("MACs per number"),
}
TIMES = {
    "time": Column("time, measured", "ms"),
    "faster": Column("times as fast", "times"),
    "quartiles": Column("quartiles in ms"),
}


def of(bundle: Bundle) -> dict[str, Layer]:
    """The layers that the page can show; none where the model's layers are not known."""
    with suppress(SlimscopeError):
        return compact.layers(bundle)
    return {}


def chosen(subject: str, layers: Mapping[str, Layer]) -> Layer:
    """The layer in the pictures; an example where the model has none."""
    if layers:
        return layers[frame.chooser("replace_convs", subject, list(layers))]
    return compact.example()


def rows(layer: Layer, settings: Mapping[str, Any]) -> tuple[Row, ...]:
    """What each design of the layer costs, with the groups and the expansion of the controls."""
    wanted = compact.designs(settings["groups"], settings["expansion"])
    question = f"costs {layer.conv} {layer.input} {wanted}"
    answer = cached.answer(question, lambda: {"rows": compact.costs(layer, wanted)})
    return () if answer is None else answer["rows"]


def grids(layer: Layer, rows: tuple[Row, ...], settings: Mapping[str, Any]) -> str:
    """The connections of every design side by side, the chosen one marked."""
    inputs, outputs, groups = layer.conv.in_channels, layer.conv.out_channels, settings["groups"]
    shown = []
    for row in rows:
        title, now = TITLES[row.design.name], row.design.name == settings["design"]
        words = f"{'▸ ' if now else ''}{title}"
        if row.weights is None:
            shown.append((figures.notice(row.why), words))
            continue
        grid = connections.drawn(row.design, inputs, outputs, groups, title)
        shown.append((grid, f"{words}: {figures.text(row.weights.value, '')} parameters"))
    what = f"{layer.label}: {inputs} channels enter, {outputs} come out. Rows are outputs, columns inputs."
    drawn = pictures.side_by_side(shown, "pieces")  # below the chooser
    return f'<div style="padding-top:.7rem">{drawn}</div>{connections.legend(groups)}{caption(what)}'


def reach(layer: Layer, rows: tuple[Row, ...]) -> str:
    """How many inputs an output hangs on after one, two and three convolutions."""
    found = []
    for row in rows:
        if not row.why:
            counts = compact.reach(layer, row.design)
            told = {f"after {number}": int(figure.value) for number, figure in enumerate(counts, 1)}
            found.append({"design": TITLES[row.design.name], **told})
    table = pd.DataFrame(found)
    return figures.table(table, {name: Column(name) for name in table}) + caption(
        f"Of {layer.conv.in_channels} inputs, after 1, 2 and 3 convolutions in a row, counted for the output that sees the "
        "fewest. A design of two or three convolutions starts over behind its last."
    )


def costs(subject: str, layer: Layer, rows: tuple[Row, ...]) -> None:
    """Parameters and multiply-adds of each design, and the measured time where it is asked for."""
    taken = sum(row.macs.value for row in rows if row.macs) * (stopwatch.WARM_UP + 2 * stopwatch.REPEATS)
    help = "Runs the layer in every design many times, in turns, and shows medians and quartiles."
    label = f"Measure the time (about {max(1.0, taken / SPEED):.0f} s)"
    if st.toggle(label, key="time-designs", help=help):
        question = f"designs {subject} {layer.label} {layer.input} {[row.design for row in rows]}"
        with st.spinner("Timing the layer in every design ..."):
            answer = cached.answer(question, lambda: {"rows": latency.timed(layer, rows)})
        rows = () if answer is None else answer["rows"]
    st.html(_costs(rows))


def _costs(rows: tuple[Row, ...]) -> str:
    standard = next(row for row in rows if row.design == STANDARD)
    table = pd.DataFrame([_cost(row, standard) for row in rows if not row.why])
    words = [f"{TITLES[row.design.name]} is not possible here: {row.why}." for row in rows if row.why]
    if standard.time is not None:
        words = [latency.why_short(rows), f"Time is the {standard.time.how}.", *words]
    said = caption(
        "Parameters and MACs are counted, batch 1. MACs per number that is read or written are modelled: each is moved once."
    )
    return (
        figures.table(table, {**COSTS, **({} if standard.time is None else TIMES)})
        + "".join(map(caption, words))
        + said
    )


def _cost(row: Row, standard: Row) -> dict[str, Any]:
    assert row.weights
    assert row.macs
    assert row.intensity
    assert standard.macs
    told: dict[str, Any] = {
        "design": TITLES[row.design.name],
        "parameters": row.weights.value,
        "macs": row.macs.value,
        "fewer": standard.macs.value / row.macs.value,
        "intensity": row.intensity.value,
    }
    if row.time is not None and row.time.spread is not None:
        low, high = row.time.spread
        faster = float("nan") if row.speed_up is None else row.speed_up.value
        told |= {"time": row.time.value, "faster": faster, "quartiles": f"{low:.3f} to {high:.3f}"}
    return told


def lesson(layer: Layer, rows: tuple[Row, ...]) -> Lesson:
    """What a separable design saves here, and what groups never see."""
    known = {row.design.name: row for row in rows if not row.why}
    standard, separable = known["standard"], known.get("separable")
    aha = "A convolution looks at places and mixes channels in one go; done one after the other, both cost a fraction."
    if separable is not None and separable.macs is not None and standard.macs is not None:
        share, outputs = separable.macs.value / standard.macs.value, layer.conv.out_channels
        area = "x".join(map(str, layer.conv.kernel_size))
        aha += f" Here {figures.text(share, 'share')} of the multiply-adds: 1/{outputs} + 1/({area})."
    trap = "Groups never talk to each other without a shuffle"
    if "grouped" in known:
        seen = int(compact.reach(layer, known["grouped"].design)[-1].value)
        trap += f": after three convolutions in groups an output still sees {seen} of {layer.conv.in_channels} inputs"
    return Lesson(aha, f"{trap}. And fewer multiply-adds are not as much less time: measure below.")
