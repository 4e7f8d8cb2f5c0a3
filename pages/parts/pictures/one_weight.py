"""One weight at a time: the staircase, what it loses, a corner of the matrix as numbers, and the lecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engine.tensor import grids
from engine.tensor.formats import AffineGrid
from pages.parts import charts, figures
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.live import Marks, Scene
from pages.parts.pictures import corner

MOST_LEVELS = 256  # drawn


def is_masked(scene: Scene) -> bool:
    """Whether some weights are exactly zero: those of a mask."""
    return bool((scene.weight == 0).any())


def draw(scene: Scene, place: Place) -> None:
    """The staircase, what it loses, and a corner of the matrix as numbers."""
    quiet = {"displayModeBar": False}
    stairs, rounding = st.columns(2, gap="medium")
    limit = 1.08 * charts.reach(scene.weight)
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
    st.subheader("Five by five weights", anchor=False)
    place("corner")


def stair_marks(grid: AffineGrid, rounded: bool, row: int) -> Marks:
    steps = grids.staircase(grid, rounded, row)
    corners = steps.iloc[np.unique(np.linspace(0, len(steps) - 1, 4 * MOST_LEVELS).astype(int))]
    path = {"kind": "path", "xs": corners["input"].tolist(), "ys": corners["output"].tolist()}
    return {"stairs": [{**path, "colour": charts.CHANGED}]}


def error_marks(scene: Scene, grid: AffineGrid, rounded: bool) -> tuple[Marks, str]:
    """A histogram of rounding errors in steps, and what it says."""
    lost = grids.errors_in_steps(scene.weight, grid, rounded).numpy()
    errors, edges = np.histogram(np.clip(lost, -1, 1), 40, (-1.0, 1.0))
    shares = errors / max(errors.sum(), 1)
    histogram = {
        "kind": "path",
        "xs": [-1.0, *np.repeat(edges, 2)[1:-1].tolist(), 1.0],
        "ys": [0.0, *np.repeat(shares / max(shares.max(), 1e-9) * 0.95, 2).tolist(), 0.0],
        "colour": charts.REMOVED,
        "fill": True,
    }
    return {"errors": [histogram]}, caption(said_of_errors(scene, lost, float(shares.max())))


def corners(scene: Scene, grid: AffineGrid) -> str:
    """Five by five weights around the largest: as they were, their codes, and what these stand for."""
    at = grids.busiest(scene.weight)
    before, codes, after = grids.corner(scene.weight, grid, at=at)
    limit = charts.reach(before)
    where = "." if scene.large else f": from row {at[0] + 1}, column {at[1] + 1}."
    return (
        caption(f"Around the largest weight{where}")
        + corner("original", before, 3, limit)
        + corner("integer code", codes, 0)
        + corner("(code - zero point) x scale", after, 3, limit)
    )


def said_of_errors(scene: Scene, lost: NDArray[np.floating[Any]], tallest: float) -> str:
    """How high the bars are, what the two at the ends stand for, and how much was clipped."""
    of = "the weights that are not zero" if is_masked(scene) else "the weights"
    outside = float((np.abs(lost) > 1).mean()) if len(lost) else 0.0
    ends = f" {figures.text(outside, 'share')} are off by more than a step: they are in the bars at the ends."
    return (
        f"The tallest bar holds {100 * tallest:.1f} % of {of}.{ends if outside else ''} "
        f"Clipped: {figures.text(scene.row['clipped'], 'share')} of all."
    )


def lecture() -> None:
    """The worked example of the lecture, where the blackboard and the exact scale disagree."""
    example = grids.affine_example(-4.75, 4.67, 8, -3.57)
    with st.expander("A worked example: -3.57 in 8 bits, and why it has two answers"):
        st.markdown(
            f"Weights from -4.75 to 4.67 in unsigned 8 bits: the step is (4.67 + 4.75) / 255 = **{example.scale:.6f}** and the "
            f"zero point is round(4.75 / step) = **{example.zero}**.\n\n"
            f"- With the exact step, -3.57 gets code round(-3.57 / {example.scale:.6f}) + {example.zero} = **{example.code}**.\n"
            f"- With the step rounded to **{example.rounded_scale}**, as on a blackboard, it gets **{example.rounded_code}**.\n\n"
            "Both are right for their step: -3.57 lies close to a border between two codes, and rounding the step to three "
            "digits moves that border. slimscope always computes with the exact step."
        )
