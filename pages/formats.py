"""Number formats: which numbers can a code of a few bits stand for?"""

import pandas as pd
import streamlit as st

from engine.tensor.formats import Levels
from engine.tensor.number_lines import NAMES, compared, ticks, tiles_of
from engine.tensor.number_systems import SYSTEMS
from engine.types import weight_layers
from pages.parts import cached, charts, figures, frame
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Scene, Update
from pages.parts.number_lines import number_lines

PAGE = {
    "title": "Number formats",
    "icon": "straighten",
    "about": "Store weights as fp8, NF4, powers of two, or in blocks that share an exponent.",
    "order": 62,
    "technique": "number_format",
    "group": "Quantize",
}


def tiles(scene: Scene) -> tuple[str, int]:
    """Which weights share a scale, as the controls say."""
    settings = scene.step.settings
    return settings["granularity"], settings["group"]


def hero(scene: Scene, place: Place) -> None:
    st.subheader("Every format on one number line", anchor=False)
    lines = {
        SYSTEMS[name].title: ticks(
            Levels.of(scene.weight, name, tiles_of(name, "tensor", 1)), charts.reach(scene.weight)
        )
        for name in NAMES
    }
    st.plotly_chart(
        number_lines(scene.weight, lines, charts.reach(scene.weight)),
        key="lines",
        config={"displayModeBar": False},
        alt=f"The numbers of each format, and under them the weights of {scene.layer}",
    )
    place("lines")


def deeper(scene: Scene, place: Place) -> None:
    st.caption(
        "Ticks above: each format with one scale for the layer, or its own blocks; ticks that are too close to tell apart "
        "are one."
    )
    st.subheader("What each format costs and loses", anchor=False)
    place("formats")
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def every_format(scene: Scene) -> pd.DataFrame:
    """What each format costs and loses on this layer."""
    said = tiles(scene)

    def work() -> dict[str, list[object]]:
        return {str(name): rows.tolist() for name, rows in compared(scene.weight, *said).items()}

    return pd.DataFrame(cached.answer(f"formats {scene.subject} {scene.key} {scene.layer} {said}", work))


def formats(scene: Scene) -> str:
    """This layer in every format."""
    columns = {
        "layer": figures.Column("format"),
        "bits": figures.Column("bits"),
        "bits_per_weight": figures.Column("with scales", "bits"),
        "levels": figures.Column("numbers"),
        "sqnr_db": figures.Column("signal to noise", "dB"),
        "bytes": figures.Column("at fixed width", "B"),
    }
    return figures.table(every_format(scene), columns, SYSTEMS[scene.step.settings["number"]].title)


def update(scene: Scene) -> Update:
    param = scene.after.params[weight_layers(scene.after)[scene.layer]]
    if not isinstance(param, Levels):
        return Update(
            {"lines": []},
            {"lines": "", "formats": formats(scene), "layers": figures.left_out(scene.layer) + layers(scene)},
            lesson(scene),
        )
    marks = {"kind": "levels", "at": ticks(param, charts.reach(scene.weight)), "colour": charts.CHANGED}
    return Update(
        {"lines": [marks]},
        {"lines": caption(said_of(scene, param)), "formats": formats(scene), "layers": layers(scene)},
        lesson(scene),
    )


def lesson(scene: Scene) -> Lesson:
    rows = every_format(scene)
    row = rows[rows["layer"] == SYSTEMS[scene.step.settings["number"]].title].iloc[0]
    alike = rows[rows["bits"] == row["bits"]].sort_values("sqnr_db")
    best, worst = (f"{alike['layer'].iloc[i]} {alike['sqnr_db'].iloc[i]:.1f} dB" for i in (-1, 0))
    return Lesson(
        f"Formats of {row['bits']:.0f} bits differ only in where their numbers lie: in {scene.layer} the best is {best}, the "
        f"worst {worst}.",
        f"Bits are not the whole price: with its scales, {row['layer']} takes {row['bits_per_weight']:.3g} bits a weight "
        f"here. And a format without hardware for it is only stored, not faster.",
        bool(row["bits_per_weight"] > 1.1 * row["bits"]),
    )


def said_of(scene: Scene, levels: Levels) -> str:
    """Whose levels are drawn through all lines."""
    scales = int(scene.row["scales"])
    whose = "no scale" if not scales else "one scale" if scales == 1 else f"the largest of {scales:,} scales"
    used = f"{scene.row['levels_used']:,} of {len(levels.system.values):,} numbers used"
    return f"Upright lines: {levels.system.title}, {whose}, {used}."


def layers(scene: Scene) -> str:
    """What the step did to each layer."""
    return figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "weights": figures.Column("weights"),
            "bits_per_weight": figures.Column("with scales", "bits"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "max_error": figures.Column("largest error"),
            "levels_used": figures.Column("numbers used"),
            "saturated": figures.Column("beyond the end", "share", charts.REMOVED),
        },
        scene.layer,
    )


frame.heading(
    "Number formats",
    "Which numbers can a code of a few bits stand for? **Choose int4, then NF4, and watch the lines gather where the "
    "weights are.**",
    "All 4-bit formats have about sixteen numbers; they differ in where those lie. Floating point and powers of two are dense "
    "near zero, NF4 follows a normal distribution, and blocks of 32 share one exponent. Every format has an exact zero.",
)
frame.workbench("number_format", hero, update, lambda scene, setting, stops: None, deeper)
