"""Quantize: how few bits can a weight be stored in?"""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor import grids
from engine.tensor.formats import Grid
from engine.tensor.granularity import named
from engine.types import weight_layers
from pages.parts import cached, charts, figures, frame, sensitivity
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.live import Ahead, Look, Marks, Moving
from pages.parts.pictures import corner

PAGE = {
    "title": "Quantize",
    "icon": "stairs",
    "about": "Store each weight in a few bits.",
    "order": 60,
    "technique": "quantize",
    "group": "Quantize",
}

MOST_LEVELS = 256  # drawn
MOST_AHEAD = 2_000_000  # weights of a layer that is rounded to every bit width before the slider moves
RANGE = ("range", "percentile")
LEAST_DECIBELS, MOST_DECIBELS = -4, 108  # what 1 to 16 bits usually reach


def symmetric(look: Look) -> bool:
    return bool(look.step.settings["scheme"] == "symmetric")


def reach(weight: Tensor) -> float:
    return float(weight.abs().max()) or 1.0


def hero(look: Look, place: Place) -> None:
    quiet = {"displayModeBar": False}
    st.subheader("Levels over the weights", anchor=False)
    st.plotly_chart(
        charts.histogram(look.weight, look.layer),
        key="levels",
        config=quiet,
        alt=f"Weights of {look.layer} with the levels of the grid",
    )
    place("levels")


def deeper(look: Look, place: Place) -> None:
    quiet = {"displayModeBar": False}
    stairs, rounding = st.columns(2, gap="medium")
    limit = 1.08 * reach(look.weight)
    with stairs:
        st.subheader("Rounding is a staircase", anchor=False)
        plane = charts.plane("weight", "stored as", (-limit, limit), diagonal=True)
        st.plotly_chart(plane, key="stairs", config=quiet, alt="Staircase from weight to stored value")
    with rounding:
        st.subheader("What is lost", anchor=False)
        empty = charts.plane("rounding error in steps", "how many, to scale with the tallest", (-1.0, 1.0))
        empty["layout"]["yaxis"] |= {"range": [0, 1], "showticklabels": False}
        st.plotly_chart(
            empty, key="errors", config=quiet, alt="Histogram of rounding errors in units of the step"
        )
        place("errors")
    curve, small = st.columns(2, gap="medium")
    with curve:
        st.subheader("Error against bits", anchor=False)
        empty = charts.plane("bits", "signal to noise, dB", (0.5, 16.5))
        top = max([MOST_DECIBELS, *(noise + 4 for noise in curve_of(look)["ys"])])
        empty["layout"]["yaxis"] |= {"range": [LEAST_DECIBELS, top]}
        st.plotly_chart(empty, key="curve", config=quiet, alt="Signal to noise ratio at 1 to 16 bits")
        place("curve")
    with small:
        st.subheader("Five by five weights", anchor=False)
        place("corner")
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    sensitivity.section("quantize", "bits", [8, 6, 5, 4, 3, 2], "bits")
    lecture()


def level_table(grid: Grid, rounded: bool, row: int) -> pd.DataFrame:
    """Levels of one row and who uses them; zero is no level of one symmetric bit, only a mask."""
    table = grids.levels(grid, rounded, row)
    return table[(table["code"] != 0) | (table["weights"] > 0)] if rounded and grid.bits == 1 else table


def level_marks(table: pd.DataFrame, masked: bool) -> Marks:
    """A line per level and a stick as high as its weights; the zeros of a mask would dwarf the rest."""
    used = table[table["weights"] > 0]
    drawn = used[used["value"] != 0] if masked else used
    lines, sticks = table["value"].tolist(), drawn
    if len(lines) > MOST_LEVELS:  # they would fill the plot
        lines, sticks = [], drawn[:0]
    heights = {"at": sticks["value"].tolist(), "heights": sticks["weights"].tolist()}
    return {
        "levels": [
            {"kind": "levels", "at": lines, "colour": charts.CHANGED},
            {"kind": "sticks", **heights, "colour": charts.CHANGED},
        ]
    }


def stair_marks(grid: Grid, rounded: bool, row: int) -> Marks:
    steps = grids.staircase(grid, rounded, row)
    corners = steps.iloc[np.unique(np.linspace(0, len(steps) - 1, 4 * MOST_LEVELS).astype(int))]
    path = {"kind": "path", "xs": corners["input"].tolist(), "ys": corners["output"].tolist()}
    return {"stairs": [{**path, "colour": charts.CHANGED}]}


def chosen_of(look: Look) -> dict[str, Any]:
    """How the layer is cut and its range found, whatever the bits."""
    settings = look.step.settings
    tiles = named(settings["granularity"], settings["group"])
    return {"granularity": tiles, **{name: settings[name] for name in RANGE}}


def curve_of(look: Look) -> dict[str, Any]:
    """Signal to noise at all bit widths, which stays where only the bits move; where nothing is lost, no point."""
    chosen = chosen_of(look)

    def work() -> dict[str, Any]:
        rows = grids.error_curve(look.weight, symmetric=symmetric(look), **chosen)
        rows = rows[np.isfinite(rows["sqnr_db"])]
        texts = [f"{row.bits} bit: {row.sqnr_db:.1f} dB" for row in rows.itertuples()]
        return {"xs": rows["bits"].tolist(), "ys": rows["sqnr_db"].tolist(), "texts": texts}

    path = cached.answer(f"curve {look.subject} {look.key} {look.layer} {symmetric(look)} {chosen}", work)
    assert path is not None
    return path


def curve_marks(look: Look, bits: int, noise: float) -> Marks:
    """The path through all bit widths, and where we are on it."""
    marks: list[dict[str, Any]] = [{"kind": "path", **curve_of(look), "colour": charts.KEPT}]
    if np.isfinite(noise):
        here = {"kind": "dot", "x": bits, "y": noise, "text": f"{bits} bit: {noise:.1f} dB"}
        marks.append({**here, "below": True, "colour": charts.CHANGED})
    return {"curve": marks}


def foresee(look: Look, setting: str, stops: list[int]) -> Ahead | None:
    """Levels, stairs and the point on the curve at each bit width."""
    settings = look.step.settings
    own = look.layer in (*settings["leave_out"], *settings["per_layer"])
    if setting != "bits" or own or look.weight.numel() > MOST_AHEAD:
        return None
    rounded, masked = symmetric(look), bool((look.weight == 0).any())
    chosen = chosen_of(look)
    marks: list[Marks] = []
    for bits in stops:
        grid = grids.quantize(look.weight, bits, rounded, **chosen)
        row = int(grid.scale.argmax())
        here = curve_marks(look, bits, grids.error(look.weight, grid, rounded).sqnr_db)
        if bits <= 8:
            here |= level_marks(level_table(grid, rounded, row), masked)
        if bits <= 6:
            here |= stair_marks(grid, rounded, row)
        marks.append(here)
    return Ahead(marks)


def moving(look: Look) -> Moving:
    param = look.after.params[weight_layers(look.after)[look.layer]]
    if not isinstance(param, Grid):
        blank = {chart: [] for chart in ("levels", "stairs", "errors", "curve")}
        empty = dict.fromkeys(("levels", "errors", "curve", "corner"), "")
        return Moving(blank, {**empty, "layers": figures.left_out(look.layer) + layers(look)})
    rounded = symmetric(look)
    widest = int(param.scale.argmax())
    table = level_table(param, rounded, widest)
    lost = grids.errors_in_steps(look.weight, param, rounded).numpy()
    masked = bool((look.weight == 0).any())
    errors, edges = np.histogram(np.clip(lost, -1, 1), 40, (-1.0, 1.0))
    shares = errors / max(errors.sum(), 1)
    histogram = {
        "kind": "path",
        "xs": [-1.0, *np.repeat(edges, 2)[1:-1].tolist(), 1.0],
        "ys": [0.0, *np.repeat(shares / max(shares.max(), 1e-9) * 0.95, 2).tolist(), 0.0],
        "colour": charts.REMOVED,
        "fill": True,
    }
    marks = {
        **level_marks(table, masked),
        **stair_marks(param, rounded, widest),
        **curve_marks(look, look.row["bits"], look.row["sqnr_db"]),
        "errors": [histogram],
    }
    at = grids.busiest(look.weight)
    before, codes, after = grids.corner(look.weight, param, at=at)
    limit = reach(before)
    return Moving(
        marks,
        {
            "levels": caption(said_of_levels(look, param, table, masked)),
            "errors": caption(said_of_errors(look, lost, float(shares.max()), masked)),
            "curve": caption("From 2 bits on, each bit brings about 6 dB: half the error."),
            "corner": caption(
                "Around the largest weight."
                if look.large
                else f"Around the largest weight: from row {at[0] + 1}, column {at[1] + 1}."
            )
            + corner("original", before, 3, limit)
            + corner("integer code", codes, 0)
            + corner("(code - zero point) x scale", after, 3, limit),
            "layers": layers(look),
        },
    )


def said_of_levels(look: Look, grid: Grid, table: pd.DataFrame, masked: bool) -> str:
    """Whose levels they are, how far apart, and what the sticks leave out."""
    widest, scales = int(grid.scale.argmax()), len(grid.scale)
    scale = float(grid.scale[widest])
    if scales == 1:
        whose = "the whole layer"
    else:
        whose = (
            f"the widest of {scales:,} scales"
            if look.large
            else f"scale {widest + 1} of {scales:,}, the widest"
        )
    apart = (
        f"They are -{scale:.4g}{', 0' if len(table) > 2 else ''} and {scale:.4g}."
        if symmetric(look) and grid.bits == 1
        else f"Step {scale:.4g}, zero point {int(grid.zero[widest])}."
    )
    sticks = "Sticks: how many of its weights land on each level, to scale with the tallest"
    return (
        f"{len(table):,} levels for {whose}; {int((table['weights'] > 0).sum()):,} are used. {apart} {sticks}"
        f"{'; that of zero is not drawn' if masked else ''}."
        + (" Too many levels to draw." if len(table) > MOST_LEVELS else "")
    )


def said_of_errors(look: Look, lost: NDArray[np.floating[Any]], tallest: float, masked: bool) -> str:
    """How high the bars are, what the two at the ends stand for, and how much was clipped."""
    of = "the weights that are not zero" if masked else "the weights"
    outside = float((np.abs(lost) > 1).mean()) if len(lost) else 0.0
    ends = f" {figures.text(outside, 'share')} are off by more than a step: they are in the bars at the ends."
    return (
        f"The tallest bar holds {100 * tallest:.1f} % of {of}.{ends if outside else ''} "
        f"Clipped: {figures.text(look.row['clipped'], 'share')} of all."
    )


def layers(look: Look) -> str:
    """What the step did to each layer, and what rounding the inputs of layers costs, where it does that."""
    table = figures.table(
        look.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            **({} if look.large else {"weights": figures.Column("weights")}),
            "bits": figures.Column("bits"),
            "bits_per_weight": figures.Column("with scales", "bits"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "max_error": figures.Column("largest error"),
            "clipped": figures.Column("clipped", "share", charts.REMOVED),
            "levels_used": figures.Column("levels used"),
        },
        look.layer,
    )
    if "activations" not in look.report.tables:
        return table
    return f"{table}<p><b>Inputs of the layers</b></p>" + figures.table(
        look.report.tables["activations"],
        {
            "layer": figures.Column("layer"),
            "kind": figures.Column("range"),
            "bits": figures.Column("bits"),
            "scale": figures.Column("scale"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "clipped": figures.Column("clipped", "share", charts.REMOVED),
        },
        look.layer,
    )


def lecture() -> None:
    """The worked example of the lecture, where the blackboard and the exact scale disagree."""
    example = grids.affine_example(-4.75, 4.67, 8, -3.57)
    with st.expander("A worked example: -3.57 in 8 bits, and why two answers are given for it"):
        st.markdown(
            f"Weights from -4.75 to 4.67 in unsigned 8 bits: the step is (4.67 + 4.75) / 255 = **{example.scale:.6f}** and the "
            f"zero point is round(4.75 / step) = **{example.zero}**.\n\n"
            f"- With the exact step, -3.57 gets code round(-3.57 / {example.scale:.6f}) + {example.zero} = **{example.code}**.\n"
            f"- With the step rounded to **{example.rounded_scale}**, as on a blackboard, it gets **{example.rounded_code}**.\n\n"
            "Both are right for their step: -3.57 lies close to a border between two codes, and rounding the step to three "
            "digits moves that border. slimscope always computes with the exact step."
        )


frame.heading(
    "Quantize",
    "How few bits can a weight be stored in? **Move the slider from 8 bits to 3 and watch the levels part.**",
    "Each weight is rounded to one of a few evenly spaced levels, and only the number of the level is stored. Accuracy "
    "holds for long, then breaks. The file gets smaller; here the model does not get faster, because codes are turned "
    "back into 32-bit numbers before they are used.",
)
frame.workbench("quantize", hero, moving, foresee, deeper)
