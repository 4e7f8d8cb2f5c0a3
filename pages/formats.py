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
from pages.parts.live import Look, Moving
from pages.parts.number_lines import number_lines

PAGE = {
    "title": "Number formats",
    "icon": "straighten",
    "about": "Store weights as fp8, NF4, powers of two, or in blocks that share an exponent.",
    "order": 62,
    "technique": "number_format",
    "group": "Quantize",
}


def tiles(look: Look) -> tuple[str, int]:
    """Which weights share a scale, as the controls say."""
    settings = look.step.settings
    return settings["granularity"], settings["group"]


def hero(look: Look, place: Place) -> None:
    st.subheader("Every format on one number line", anchor=False)
    lines = {
        SYSTEMS[name].title: ticks(
            Levels.of(look.weight, name, tiles_of(name, "tensor", 1)), charts.reach(look.weight)
        )
        for name in NAMES
    }
    st.plotly_chart(
        number_lines(look.weight, lines, charts.reach(look.weight)),
        key="lines",
        config={"displayModeBar": False},
        alt=f"The numbers of each format, and under them the weights of {look.layer}",
    )
    place("lines")


def deeper(look: Look, place: Place) -> None:
    st.caption(
        "Ticks above: each format with one scale for the layer, or its own blocks; ticks that are too close to tell apart "
        "are one."
    )
    st.subheader("What each format costs and loses", anchor=False)
    place("formats")
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def every_format(look: Look) -> pd.DataFrame:
    """What each format costs and loses on this layer."""
    said = tiles(look)

    def work() -> dict[str, list[object]]:
        return {str(name): rows.tolist() for name, rows in compared(look.weight, *said).items()}

    return pd.DataFrame(cached.answer(f"formats {look.subject} {look.key} {look.layer} {said}", work))


def formats(look: Look) -> str:
    """This layer in every format."""
    columns = {
        "layer": figures.Column("format"),
        "bits": figures.Column("bits"),
        "bits_per_weight": figures.Column("with scales", "bits"),
        "levels": figures.Column("numbers"),
        "sqnr_db": figures.Column("signal to noise", "dB"),
        "bytes": figures.Column("at fixed width", "B"),
    }
    return figures.table(every_format(look), columns, SYSTEMS[look.step.settings["number"]].title)


def moving(look: Look) -> Moving:
    param = look.after.params[weight_layers(look.after)[look.layer]]
    if not isinstance(param, Levels):
        return Moving(
            {"lines": []},
            {"lines": "", "formats": formats(look), "layers": figures.left_out(look.layer) + layers(look)},
            lesson(look),
        )
    marks = {"kind": "levels", "at": ticks(param, charts.reach(look.weight)), "colour": charts.CHANGED}
    return Moving(
        {"lines": [marks]},
        {"lines": caption(said_of(look, param)), "formats": formats(look), "layers": layers(look)},
        lesson(look),
    )


def lesson(look: Look) -> Lesson:
    rows = every_format(look)
    row = rows[rows["layer"] == SYSTEMS[look.step.settings["number"]].title].iloc[0]
    alike = rows[rows["bits"] == row["bits"]].sort_values("sqnr_db")
    best, worst = (f"{alike['layer'].iloc[i]} {alike['sqnr_db'].iloc[i]:.1f} dB" for i in (-1, 0))
    return Lesson(
        f"Formats of {row['bits']:.0f} bits differ only in where their numbers lie: in {look.layer} the best is {best}, the "
        f"worst {worst}.",
        f"Bits are not the whole price: with its scales, {row['layer']} takes {row['bits_per_weight']:.3g} bits a weight "
        f"here. And a format without hardware for it is only stored, not faster.",
        bool(row["bits_per_weight"] > 1.1 * row["bits"]),
    )


def said_of(look: Look, levels: Levels) -> str:
    """Whose levels are drawn through all lines."""
    scales = int(look.row["scales"])
    whose = "no scale" if not scales else "one scale" if scales == 1 else f"the largest of {scales:,} scales"
    used = f"{look.row['levels_used']:,} of {len(levels.system.values):,} numbers used"
    return f"Upright lines: {levels.system.title}, {whose}, {used}."


def layers(look: Look) -> str:
    """What the step did to each layer."""
    return figures.table(
        look.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "weights": figures.Column("weights"),
            "bits_per_weight": figures.Column("with scales", "bits"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "max_error": figures.Column("largest error"),
            "levels_used": figures.Column("numbers used"),
            "saturated": figures.Column("beyond the end", "share", charts.REMOVED),
        },
        look.layer,
    )


frame.heading(
    "Number formats",
    "Which numbers can a code of a few bits stand for? **Choose int4, then NF4, and watch the lines gather where the "
    "weights are.**",
    "All 4-bit formats have about sixteen numbers; they differ in where those lie. Floating point and powers of two are dense "
    "near zero, NF4 follows a normal distribution, and blocks of 32 share one exponent. Every format has an exact zero.",
)
frame.workbench("number_format", hero, moving, lambda look, setting, stops: None, deeper)
