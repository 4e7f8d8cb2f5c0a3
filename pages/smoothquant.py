"""SmoothQuant: where should the range of a channel be, in what enters a layer or in its weights?"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st
import torch

from engine.net import smoothing, sources
from engine.net.channels.migrating import migrations
from engine.net.smoothing import ALPHAS
from engine.net.taps import module_of
from engine.tensor import smooth
from engine.types import Bundle, SlimscopeError
from pages.parts import cached, charts, figures, frame
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Update
from pages.parts.pictures import legend

PAGE = {
    "title": "SmoothQuant",
    "icon": "tune",
    "about": "Move outliers of what enters layers into their weights, before both are rounded.",
    "order": 59,
    "technique": "smoothquant",
    "group": "Quantize",
}
INPUTS, WEIGHTS = charts.KEPT, charts.REMOVED
QUIET = {"displayModeBar": False}
SIDES = {"inputs": INPUTS, "weights": WEIGHTS}


def reads_channels(bundle: Bundle, weight: str) -> bool:
    """Whether what enters this layer can be divided."""
    try:
        return module_of(weight) in smoothing.readers(migrations(bundle.arch))
    except SlimscopeError:
        return False


def channels(scene: Scene) -> pd.DataFrame:
    """The channels that the chosen layer reads, the widest input first; none where it is left out."""
    table = scene.report.tables["channels"]
    own = table[table["maker"] == (scene.row["divided_in"] if scene.row else None)]
    return own.sort_values("inputs_before", ascending=False, kind="stable")


def hero(scene: Scene, place: Place) -> None:
    own = channels(scene)
    st.subheader("The widest value of each channel", anchor=False)
    if own.empty:
        st.html(figures.left_out(scene.layer))
        return
    st.plotly_chart(
        before(own), key="channel-ranges", config=QUIET, alt=f"Ranges of what {scene.layer} reads"
    )
    place("ranges")


def before(own: pd.DataFrame) -> charts.Chart:
    """Both ranges as they were, thin, on a logarithmic axis that holds them at every alpha."""
    ranks = list(range(1, len(own) + 1))
    traces: list[charts.Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ranks,
            "y": own[f"{side}_before"].where(own[f"{side}_before"] > 0).tolist(),
            "line": {"color": colour, "width": 1, "dash": "dot"},
            "name": f"{side} before",
            "showlegend": False,
        }
        for side, colour in SIDES.items()
    ]
    low, high = reach(own)
    digits = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [
        float(f"{digit}e{power}") for power in range(math.floor(low), math.ceil(high)) for digit in digits
    ]
    axis = {
        "type": "log",
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
    return charts.chart(traces, "channels, the widest input first", "size", 170, yaxis=axis)


def reach(own: pd.DataFrame) -> list[float]:
    """The ends of the axis, as powers of ten: at alpha 0 weights reach 1 and inputs the product, at 1 they swap."""
    inputs, weights = own["inputs_before"], own["weights_before"]
    every = pd.concat([inputs, weights, inputs * weights, pd.Series([1.0])])
    alive = every[every > 0]
    return [math.log10(alive.min()) - 0.1, math.log10(alive.max()) + 0.1]


def along(scene: Scene) -> charts.Chart:
    """The error of the layer's outputs at each alpha, and a thin line where nothing has moved."""
    *errors, still = errors_of(scene)
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "x": [0, 1], "y": [still, still]}
    flat: charts.Chart = {**line, "line": {"color": charts.ORIGINAL, "width": 1, "dash": "dot"}}
    curve: charts.Chart = {
        "type": "scatter",
        "mode": "lines",
        "x": list(ALPHAS),
        "y": errors,
        "line": {"color": charts.ORIGINAL, "width": 2},
        "showlegend": False,
    }
    axes = {"tickformat": ".2~%", "rangemode": "tozero"}
    return charts.chart([flat, curve], "alpha", "error of the outputs", 180, yaxis=axes)


def errors_of(scene: Scene) -> list[float]:
    """The error of the layer's outputs at each of ALPHAS, and, last, where nothing has moved."""
    count, arch = scene.step.settings["calibration"], scene.before.arch

    def work() -> dict[str, Any]:
        train = sources.data(arch).train
        return {"errors": list(smoothing.error_along(scene.before, train, count, scene.layer))}

    found = cached.answer(f"smooth {scene.subject} {scene.key} {scene.layer} {count}", work)
    assert found is not None
    return list(found["errors"])


def marks(scene: Scene, own: pd.DataFrame, alpha: float, error: float) -> Marks:
    """Both ranges at an alpha, and where that is on the curve of errors."""
    inputs, weights = (torch.tensor(own[f"{side}_before"].to_numpy()) for side in SIDES)
    moved = smooth.divided(inputs, weights, smooth.factors(inputs, weights, alpha))
    paths = []
    for values, colour in zip(moved, SIDES.values(), strict=True):
        drawn = [(rank, float(f"{value:.4g}")) for rank, value in enumerate(values.tolist(), 1) if value > 0]
        xs, ys = ([each[side] for each in drawn] for side in (0, 1))
        paths.append({"kind": "path", "xs": xs, "ys": ys, "colour": colour})
    words = f"alpha {alpha:.2f}: {100 * error:.2g} % off"
    here = [
        {"kind": "line", "at": alpha, "colour": charts.CHANGED, "dash": "2 4", "text": words, "top": 50},
        {"kind": "dot", "x": alpha, "y": error, "colour": charts.CHANGED},
    ]
    return {"channel-ranges": paths, "error-along": here}


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    """The ranges follow from those before, and the errors are known: the browser needs nobody."""
    own = channels(scene)
    if setting != "alpha" or own.empty:
        return None
    errors = dict(zip(ALPHAS, errors_of(scene), strict=False))
    near = [min(ALPHAS, key=lambda alpha: abs(alpha - stop)) for stop in stops]
    return Precomputed(
        [marks(scene, own, stop, errors[alpha]) for stop, alpha in zip(stops, near, strict=True)]
    )


def update(scene: Scene) -> Update:
    own, table = channels(scene), layers(scene)
    if own.empty:
        return Update({"channel-ranges": [], "error-along": []}, {"layers": table}, lesson(scene))
    still, row = errors_of(scene)[-1], scene.row
    swatches = legend((INPUTS, "what enters"), (WEIGHTS, "weights that read it; dotted: before"))
    even = (
        f"Widest over median: inputs {ratio(own['inputs_before'])}, now {ratio(own['inputs_after'])}; weights "
        f"{ratio(own['weights_before'])}, now {ratio(own['weights_after'])}."
    )
    error = (
        f"Weights and inputs in {smoothing.BITS} bits: outputs are {100 * row['error_after']:.2g} % off, {100 * still:.2g} % "
        "before (dotted)."
    )
    html = {"ranges": swatches + caption(even), "error": caption(error), "layers": table}
    return Update(marks(scene, own, scene.step.settings["alpha"], row["error_after"]), html, lesson(scene))


def ratio(values: pd.Series) -> str:
    """The largest over the median of those that are not zero, as words."""
    alive = values[values > 0]
    return f"{alive.max() / alive.median():.3g}" if len(alive) else "none"


def layers(scene: Scene) -> str:
    """What the step did to each layer."""
    return figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "divided_in": figures.Column("divided in"),
            "inputs": figures.Column("channels"),
            "error_before": figures.Column("error before", "share", charts.REMOVED),
            "error_after": figures.Column("error after", "share", charts.KEPT),
            "input_precision_before": figures.Column("inputs even, before", "share"),
            "input_precision_after": figures.Column("after", "share"),
            "weight_precision_before": figures.Column("weights even, before", "share"),
            "weight_precision_after": figures.Column("after", "share"),
        },
        scene.layer,
    )


def lesson(scene: Scene) -> Lesson:
    own = channels(scene)
    if own.empty:
        return Lesson("", "")
    *errors, still = errors_of(scene)
    best = min(zip(errors, ALPHAS, strict=True))
    won = f"here at best {100 * best[0]:.2g} % at alpha {best[1]:.2f}, {100 * still:.2g} % without"
    return Lesson(
        "Divide a channel where it is made, multiply it where it is read: no answer changes, but a token's one scale "
        f"is no longer ruled by its widest channel ({won}).",
        "By itself it makes nothing smaller: quantize after it. Towards alpha = 1 the outliers are in the weights, and "
        "a model without outliers wins little.",
        bool(scene.row["error_after"] > still),
    )


def deeper(scene: Scene, place: Place) -> None:
    if not channels(scene).empty:
        st.subheader("What rounding costs", anchor=False)
        st.plotly_chart(
            along(scene),
            key="error-along",
            config=QUIET,
            alt=f"Error of {scene.layer} by rounding, against alpha",
        )
        place("error")
    st.caption(
        "Errors: weights share one scale, each token or image that enters has one, and training samples are sent through. "
        "Even: the mean of the channels' ranges over the widest; 100 % wastes no level. What is not listed reads something "
        "that nothing in front of it can divide exactly, and stays."
    )
    st.subheader("Layer by layer", anchor=False)
    place("layers")


frame.heading(
    "SmoothQuant",
    "Should a wide channel be wide in what enters a layer, or in its weights? **Move alpha from one to the other.**",
    "Inputs are hard to round where a few channels are much wider than the rest; weights are mostly even. s = max|X|^alpha / "
    "max|W|^(1 - alpha) of each channel goes over from one to the other: into the normalisation or layer before, where "
    "that is exact.",
)
frame.workbench("smoothquant", hero, update, precompute, deeper, reads_channels)
