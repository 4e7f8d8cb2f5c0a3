"""Quantize: how few bits can a weight be stored in?"""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from engine.tensor import grids
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import named
from engine.types import Recipe, weight_layers
from pages.parts import cached, charts, components, damage_split, figures, frame, outlier_lab, sensitivity
from pages.parts.figures import caption
from pages.parts.fold import fold
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Update
from pages.parts.pictures import clip, one_weight
from pages.parts.pictures.one_weight import MOST_LEVELS, is_masked

PAGE = {
    "title": "Quantize",
    "icon": "stairs",
    "about": "Store each weight in a few bits.",
    "order": 60,
    "technique": "quantize",
    "group": "Quantize",
}

MOST_AHEAD = 2_000_000  # weights of a layer that is rounded to every bit width before the slider moves
RANGE = ("range", "percentile")
LEAST_DECIBELS, MOST_DECIBELS = -4, 108  # what 1 to 16 bits usually reach


def symmetric(scene: Scene) -> bool:
    return bool(scene.step.settings["scheme"] == "symmetric")


def hero(scene: Scene, place: Place) -> None:
    quiet = {"displayModeBar": False}
    st.subheader("Levels over the weights", anchor=False)
    st.plotly_chart(
        charts.histogram(scene.weight, scene.layer),
        key="levels",
        config=quiet,
        alt=f"Weights of {scene.layer} with the levels of the grid",
    )
    components.handle()
    place("levels")


def deeper(scene: Scene, place: Place) -> None:
    quiet = {"displayModeBar": False}
    clips, curve = st.columns(2, gap="medium")
    with clips:
        clip.draw()
        place("clip")
    with curve:
        st.subheader("Error against bits", anchor=False)
        empty = charts.plane("bits", "signal to noise, dB", (0.5, 16.5))
        top = max([MOST_DECIBELS, *(noise + 4 for noise in curve_of(scene)["ys"])])
        empty["layout"]["yaxis"] |= {"range": [LEAST_DECIBELS, top]}
        st.plotly_chart(empty, key="curve", config=quiet, alt="Signal to noise ratio at 1 to 16 bits")
        place("curve")
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    fold("One weight at a time", "one-weight", lambda: one_weight.draw(scene, place))
    fold(outlier_lab.TITLE, "outlier", lambda: outlier_lab.draw(scene))
    damage_split.section("quantize")
    sensitivity.section("quantize", "bits", [8, 6, 5, 4, 3, 2], "bits")
    one_weight.lecture()


def level_table(grid: AffineGrid, rounded: bool, row: int) -> pd.DataFrame:
    """Levels of one row and who uses them; zero is no level of one symmetric bit, only a mask."""
    table = grids.levels(grid, rounded, row)
    return table[(table["code"] != 0) | (table["weights"] > 0)] if rounded and grid.bits == 1 else table


def level_marks(scene: Scene, grid: AffineGrid, table: pd.DataFrame) -> list[dict[str, Any]]:
    """A line per level, and its weights spread over its step, on the scale of the histogram's axis.

    Where the levels are of one scale out of several, all weights are taken to be like its own; the zeros of a
    mask are drawn in neither.
    """
    drawn = table[(table["weights"] > 0) & ((table["value"] != 0) | (not is_masked(scene)))]
    lines = table["value"].tolist()
    if len(lines) > MOST_LEVELS:  # they would fill the plot
        lines, drawn = [], drawn[:0]
    step = float(grid.scale[clip.shown(scene, grid)]) * (2 if symmetric(scene) and grid.bits == 1 else 1)
    bin_width = 2 * charts.reach(scene.weight) / charts.BINS
    share = bin_width / step * int((scene.weight != 0).sum()) / max(int(drawn["weights"].sum()), 1)
    bars = {"at": drawn["value"].tolist(), "heights": (share * drawn["weights"]).tolist(), "wide": step}
    return [
        {"kind": "levels", "at": lines, "colour": charts.CHANGED},
        {"kind": "bars", **bars, "colour": charts.CHANGED},
    ]


def chosen_of(scene: Scene) -> dict[str, Any]:
    """How the layer is cut, its range found and its weights rounded, whatever the bits."""
    settings = scene.step.settings
    tiles = named(settings["granularity"], settings["group"])
    chance = {"seed": settings["seed"]} if settings["rounding"] == "stochastic" else {}
    return {"granularity": tiles, **{name: settings[name] for name in RANGE}, **chance}


def curve_of(scene: Scene) -> dict[str, Any]:
    """Signal to noise at all bit widths, which stays where only the bits move; where nothing is lost, no point."""
    chosen = chosen_of(scene)

    def work() -> dict[str, Any]:
        rows = grids.error_curve(scene.weight, symmetric=symmetric(scene), **chosen)
        rows = rows[np.isfinite(rows["sqnr_db"])]
        texts = [f"{row.bits} bit: {row.sqnr_db:.1f} dB" for row in rows.itertuples()]
        return {"xs": rows["bits"].tolist(), "ys": rows["sqnr_db"].tolist(), "texts": texts}

    path = cached.answer(f"curve {scene.subject} {scene.key} {scene.layer} {symmetric(scene)} {chosen}", work)
    assert path is not None
    return path


def curve_marks(scene: Scene, bits: int, noise: float) -> Marks:
    """The path through all bit widths, and where we are on it."""
    marks: list[dict[str, Any]] = [{"kind": "path", **curve_of(scene), "colour": charts.KEPT}]
    if np.isfinite(noise):
        here = {"kind": "dot", "x": bits, "y": noise, "text": f"{bits} bit: {noise:.1f} dB"}
        marks.append({**here, "below": True, "colour": charts.CHANGED})
    return {"curve": marks}


def precompute(scene: Scene, setting: str, stops: list[int]) -> Precomputed | None:
    """Levels, stairs and the point on the curve at each bit width."""
    settings = scene.step.settings
    own = scene.layer in (*settings["leave_out"], *settings["per_layer"])
    if setting != "bits" or own or scene.weight.numel() > MOST_AHEAD:
        return None
    rounded, chosen = symmetric(scene), chosen_of(scene)
    marks: list[Marks] = []
    for bits in stops:
        grid = grids.quantize(scene.weight, bits, rounded, **chosen)
        row = clip.shown(scene, grid)
        here = curve_marks(scene, bits, grids.error(scene.weight, grid, rounded).sqnr_db)
        if bits <= 8:
            clips = clip.drawn(scene, grid)
            lines = level_marks(scene, grid, level_table(grid, rounded, row))
            here |= {"levels": lines + clips.handle, clip.CHART: clips.marks}
        if bits <= 6:
            here |= one_weight.stair_marks(grid, rounded, row)
        marks.append(here)
    return Precomputed(marks)


def update(scene: Scene) -> Update:
    param = scene.after.params[weight_layers(scene.after)[scene.layer]]
    if not isinstance(param, AffineGrid):
        blank = {chart: [] for chart in ("levels", "stairs", "errors", "curve", clip.CHART)}
        empty = dict.fromkeys(("levels", "errors", "curve", "corner", "clip"), "")
        return Update(
            blank, {**empty, "layers": figures.left_out(scene.layer) + layers(scene)}, Lesson(AHA, "")
        )
    rounded = symmetric(scene)
    widest = clip.shown(scene, param)
    table = level_table(param, rounded, widest)
    clips = clip.drawn(scene, param)
    errors, said_of_errors = one_weight.error_marks(scene, param, rounded)
    marks = {
        "levels": level_marks(scene, param, table) + clips.handle,
        **one_weight.stair_marks(param, rounded, widest),
        **curve_marks(scene, scene.row["bits"], scene.row["sqnr_db"]),
        **errors,
        clip.CHART: clips.marks,
    }
    return Update(
        marks,
        {
            "levels": caption(said_of_levels(scene, param, table)),
            "clip": clips.words,
            "errors": said_of_errors,
            "curve": caption(said_of_bits(curve_of(scene)["ys"])),
            "corner": one_weight.corners(scene, param),
            "layers": layers(scene),
        },
        lesson(scene, param, table),
    )


AHA = "One outlier wastes the levels: it stretches the steps of all weights that share its scale."


def lesson(scene: Scene, grid: AffineGrid, table: pd.DataFrame) -> Lesson:
    """How far the largest weight lies from the others, and what that leaves of the levels; what is lost, and what is not."""
    own = grid.granularity.members(scene.weight, clip.shown(scene, grid))
    far = float(own.abs().max() / own.square().mean().sqrt().clamp(min=1e-30))
    used = int((table["weights"] > 0).sum())
    aha = f"{AHA} Here it is {far:.1f} times their typical (rms) size, and {used:,} of {len(table):,} levels are used."
    larger = why_larger(scene) if grid.bits == 1 else ""
    return Lesson(
        aha,
        larger
        or f"Error is not accuracy: {scene.row['sqnr_db']:.1f} dB of signal to noise say little about the "
        "answers, and less round-off can mean more clipping (below). Look at the accuracy.",
        bool(larger),
    )


def why_larger(scene: Scene) -> str:
    """Why one bit makes a larger file than two, with the measured bytes; empty where it does not, or none are known."""
    size = cached.bytes_along(scene.subject, Recipe.from_key(scene.key).then(scene.step), "bits")
    one, two = size.get(1), size.get(2)
    if one is None or two is None or one <= two:
        return ""
    zeros = float(
        (grids.quantize(scene.weight, 2, symmetric(scene), **chosen_of(scene)).codes == 0).float().mean()
    )
    return (
        f"1 bit is larger than 2: {figures.text(one, 'B')} against {figures.text(two, 'B')}. Signs are like coins, which no "
        f"coder shortens; of 2-bit codes {figures.text(zeros, 'share')} are zero here, and zeros take almost no space."
    )


def said_of_levels(scene: Scene, grid: AffineGrid, table: pd.DataFrame) -> str:
    """Whose levels they are, and how far apart."""
    number, scales = clip.shown(scene, grid), len(grid.scale)
    scale, zero = float(grid.scale[number]), int(grid.zero[number])
    whose = "One scale" if scales == 1 else f"Scale {number + 1:,} of {scales:,}, the largest weight's"
    few = (
        ", too many to draw" if len(table) > MOST_LEVELS else ", zeros not drawn" if is_masked(scene) else ""
    )
    apart = f"-{scale:.4g} and {scale:.4g}" if symmetric(scene) and grid.bits == 1 else f"step {scale:.4g}"
    centre = "" if symmetric(scene) else f", zero point {zero}"
    return f"{whose}: {len(table):,} levels{few}, {apart}{centre}."


def said_of_bits(decibels: list[float]) -> str:
    """What a bit more brings, and where clipping sets the limit."""
    if len(decibels) > 1 and decibels[-1] - decibels[-2] < 3:
        return "From some bits on, only clipping is left: a bit more brings nothing."
    return "From 2 bits on, each bit brings about 6 dB: half the error."


def layers(scene: Scene) -> str:
    """What the step did to each layer, and what rounding the inputs of layers costs, where it does that."""
    table = figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            **({} if scene.large else {"weights": figures.Column("weights")}),
            "bits": figures.Column("bits"),
            "bits_per_weight": figures.Column("with scales", "bits"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "max_error": figures.Column("largest error"),
            "clipped": figures.Column("clipped", "share", charts.REMOVED),
            "levels_used": figures.Column("levels used"),
        },
        scene.layer,
    )
    if "activations" not in scene.report.tables:
        return table
    return f"{table}<p><b>Inputs of the layers</b></p>" + figures.table(
        scene.report.tables["activations"],
        {
            "layer": figures.Column("layer"),
            "kind": figures.Column("range"),
            "bits": figures.Column("bits"),
            "scale": figures.Column("scale"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "clipped": figures.Column("clipped", "share", charts.REMOVED),
        },
        scene.layer,
    )


frame.heading(
    "Quantize",
    "How few bits can a weight be stored in? **Move the slider from 8 bits to 3 and watch the levels part.**",
    "Each weight is rounded to one of a few evenly spaced levels, and only the number of the level is stored. Accuracy "
    "holds for long, then breaks. The file gets smaller; on the pages the model does not get faster, because codes are "
    "turned back into 32-bit numbers before they are used. With rounded activations, an ONNX file (Ship it) multiplies "
    "codes as they are.",
)
frame.workbench("quantize", hero, update, precompute, deeper)
