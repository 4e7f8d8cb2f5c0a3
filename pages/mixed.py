"""Mixed precision: which layers need their bits, and which can spare some?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.figures import mixed_bits
from engine.recipe import technique
from pages.parts import evolution, figures, frame, layer_times
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Precomputed, Scene, Update
from pages.parts.pictures import layer_bits, layer_spans

PAGE = {
    "title": "Mixed precision",
    "icon": "equalizer",
    "about": "Give each layer its own bits under a budget of bytes or time, by how much the loss notices its rounding.",
    "order": 61,
    "technique": "mixed_precision",
    "group": "Quantize",
}
MOST_AHEAD = 60  # layers whose bits are dealt out at all stops of the slider
UNUSED = 0.05  # of the bytes: more says that uniform bits are of another size
NAT = "Predicted from training samples, layer by layer, and measured on validation samples, all rounded"
UNITS = {
    "trace": "nat of loss",
    "curvature": "nat of loss",
    "kl": "nat of KL",
    "accuracy": "share of the samples",
}
SAID = {
    "trace": f"{NAT}: the increase of the loss, in nat.",
    "curvature": f"{NAT}: the increase of the loss, in nat.",
    "kl": f"{NAT}: KL of the outputs, in nat.",
    "accuracy": f"{NAT}: the share of the samples that are lost.",
    "error": "Measured on validation samples: the increase of the loss, in nat. Squared error predicts none.",
}
MODELS = {
    "model": figures.Column("bits"),
    "bits_per_weight": figures.Column("in the file", "bits"),
    "bytes": figures.Column("weights", "B"),
    "predicted": figures.Column("predicted"),
    "measured": figures.Column("measured"),
    "accuracy": figures.Column("accuracy", "share", span=("low", "high")),
    "change": figures.Column("change in points", "points", span=("change_low", "change_high")),
}
LAYERS = {
    "layer": figures.Column("layer"),
    "weights": figures.Column("weights"),
    "bits": figures.Column("bits"),
    "uniform_bits": figures.Column("uniform bits"),
    "bytes": figures.Column("in the file", "B"),
    "time": figures.Column("time by the table, µs"),
    "sensitivity": figures.Column("expected to lose"),
    "squared_error": figures.Column("squared error"),
}


def in_time(scene: Scene) -> bool:
    """Whether the budget is of time."""
    return bool(scene.step.settings["limit"] == "time")


def picture(scene: Scene) -> Any:
    """What draws the layers; nothing where their times are asked for."""
    if not in_time(scene):
        return layer_bits
    return layer_spans if mixed_bits.TIME in scene.report.tables["layers"] else None


def hero(scene: Scene, place: Place) -> None:
    what, draw = "Time" if in_time(scene) else "Bits", picture(scene)
    st.subheader(f"{what} of each layer", anchor=False)
    if draw is None:
        st.space("small")  # below the choice of a layer
        return layer_times.inside()
    st.plotly_chart(
        draw.empty(scene),
        key="bits",
        config={"displayModeBar": False},
        alt=f"{what} of each layer as bars",
    )
    return place("bits")


def deeper(scene: Scene, place: Place) -> None:
    st.subheader("Predicted and measured, mixed and uniform", anchor=False)
    place("models")
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    layer_times.section()
    if not in_time(scene):
        evolution.section()


def update(scene: Scene) -> Update:
    tables = scene.report.tables
    table = tables["layers"]
    if mixed_bits.TIME in table:
        table = table.assign(time=table[mixed_bits.TIME] / 1e3)
    bits = dict(zip(table["layer"], table["bits"].tolist(), strict=True))
    uniform = int(table["uniform_bits"].iloc[0]) if "uniform_bits" in table and len(table) else None
    models = figures.table(tables["models"], {x: own for x, own in MODELS.items() if x in tables["models"]})
    columns = {name: own for name, own in LAYERS.items() if name in table}
    draw, dealt = picture(scene), mixed_bits.Deal(bits, uniform)
    html = {
        "bits": caption(draw.said(scene, uniform)) if draw else "",
        "models": models + caption(SAID[scene.step.settings["sensitivity"]]),
        "layers": figures.table(table, columns, scene.layer),
    }
    return Update(draw.bars(scene, dealt) if draw else {}, html, lesson(scene))


def lesson(scene: Scene) -> Lesson:
    """What mixed bits gain over uniform ones, how far the prediction is off, and whether bytes are alike."""
    known, rows = technique.get(scene.step.technique), scene.report.tables["models"].set_index("model")
    found = {figure.name: figure for figure in scene.report.figures}
    mixed = rows.loc["mixed"]
    trap = known.trap
    if "predicted" in mixed and picture(scene) is not None:
        trap = (
            "What layers lose alone is added up, but together they lose something else: "
            f"{mixed['predicted']:.3g} predicted, {mixed['measured']:.3g} measured ({UNITS[scene.step.settings['sensitivity']]})."
        )
    if picture(scene) is layer_spans:
        return Lesson(_aha_of_time(scene), trap)
    if in_time(scene) or "uniform" not in rows.index:
        return Lesson(known.aha, trap)
    gain = figures.points(found["validation accuracy gain over uniform bits"], scene.step.settings["checked"])
    sizes = " against ".join(figures.text(rows.loc[x, "bytes"], "B") for x in ("mixed", "uniform"))
    unused = 1 - rows.loc["uniform", "bytes"] / mixed["bytes"]
    if unused > UNUSED:
        trap = (
            f"A uniform width comes in whole bits: here it leaves {100 * unused:.0f} % of the bytes unused, and "
            "part of the gain is bytes. Look at a budget where both weigh the same."
        )
    aha = f"Layers are not alike. Against {found['uniform bits'].value:.0f} bits in all of them: {gain}, {sizes} of weights."
    return Lesson(aha, trap, bool(unused > UNUSED))


def _aha_of_time(scene: Scene) -> str:
    """How many layers run on codes, and what that wins by the table."""
    found = {figure.name: figure for figure in scene.report.figures}
    bits = scene.report.tables["layers"]["bits"]
    names = ("predicted time of the layers", "time of the layers as they are")
    spent, whole = (figures.text(found[name].value, "ms") for name in names)
    change = figures.points(found["validation accuracy change"], scene.step.settings["checked"])
    return (
        f"{(bits < mixed_bits.AS_IT_IS).sum()} of {len(bits)} layers run on 8-bit codes: {spent} instead of {whole} by the "
        f"table, accuracy {change}. Small ones may be slower so."
    )


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    """The bars at each budget."""
    draw = picture(scene)
    if setting not in ("budget", "share") or draw is None or len(scene.labels) > MOST_AHEAD:
        return None
    told, weights = scene.report.tables["widths"], int(scene.report.tables["layers"]["weights"].sum())
    cost = mixed_bits.TIME if in_time(scene) else mixed_bits.BYTES
    most = (
        mixed_bits.time_limit(stop, told) if in_time(scene) else mixed_bits.limit(stop, weights)
        for stop in stops
    )
    least = mixed_bits.least(told, cost)
    return Precomputed([draw.bars(scene, mixed_bits.deal(told, max(own, least), cost)) for own in most])


frame.heading(
    "Mixed precision",
    "Which layers need their bits, and which can spare some? **Lower the budget and watch who pays.**",
    "Each layer is rounded to a width of its own. What a layer loses at each width is worked out once, and what it takes in "
    "the file as well; then the widths of the least loss in all are found exactly, for any budget. The line is what the "
    "same bytes buy where all layers have the same bits.",
)
frame.workbench("mixed_precision", hero, update, precompute, deeper)
