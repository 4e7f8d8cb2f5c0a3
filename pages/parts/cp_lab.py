"""CP on low rank's page: the best fit of all for its weights, of pieces that grow and cancel each other."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from engine.tensor import cp
from pages.parts import cached, charts, figures
from pages.parts.figures import Column, caption
from pages.parts.live import Scene

TITLE = "Why not CP? It fits best, by pieces that cancel each other"
MOST = 40_000  # weights of a kernel that is decomposed while somebody waits
CANCELS = 1.5  # of the kernel's size: below it pieces hardly cancel
COLUMNS = {
    "rank": Column("rank"),
    "weights": Column("weights"),
    "cp": Column("error of CP", "share"),
    "tucker": Column("of Tucker", "share"),
    "spatial": Column("of spatial", "share"),
    "channel": Column("of channel", "share"),
    "size": Column("pieces, in kernels", "times"),
    "opposite": Column("most opposite pair"),
    "cp_rounded": Column(f"CP in {cp.BITS} bits", "share"),
    "tucker_rounded": Column(f"Tucker in {cp.BITS} bits", "share"),
}


def draw(scene: Scene) -> None:
    """A table of three ranks, and how the pieces grow while they are fitted."""
    if (
        scene.weight.dim() != 4
        or scene.weight[0, 0].numel() == 1
        or scene.weight.numel() > MOST
        or scene.large
    ):
        st.html(
            caption(
                f"Worked out for convolutions with kernels, of up to {MOST:,} weights: choose another layer."
            )
        )
        return
    with st.spinner("Fitting three sums of pieces ..."):
        told = _told(scene)
    rows, course = pd.DataFrame(told["rows"]), pd.DataFrame(told["course"])
    st.html(caption(WORDS))
    st.html(figures.table(rows, COLUMNS) + caption(said(rows)))
    course["rank"] = "rank " + course["rank"].astype(str)
    st.plotly_chart(
        charts.lines(
            course,
            "sweep",
            "size",
            "rank",
            titles=("sweep over the four factors", "size of the pieces, in kernels"),
            height=240,
        ),
        key="cp-course",
        config={"displayModeBar": False},
        alt="How large the pieces are together, over the size of the kernel, after each sweep, for three ranks",
    )
    st.html(
        caption(
            f"{scene.layer} by alternating least squares in 64 bits, {cp.SWEEPS} sweeps from one seed. Error: norm of what "
            "is left out over that of the kernel. Others have at most as many weights as CP; a dash: they can't have so few. "
            "A test by itself: neither the recipe nor any figure above changes."
        )
    )


WORDS = (
    "CP writes a kernel as a sum of pieces, each a product of four vectors: over outputs, inputs, rows and columns. That is "
    "four thin convolutions, and a piece costs only the sum of these four sides (Lebedev 2015). But pieces are not "
    "orthogonal: they may grow while they cancel each other, and often no nearest sum exists (de Silva and Lim 2008)."
)


def _told(scene: Scene) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        found = cp.at_shares(scene.weight)
        course = [
            {"rank": own.rank, "sweep": sweep, "size": size} for own in found for sweep, _, size in own.course
        ]
        return {"rows": cp.beside(scene.weight, found).to_dict("list"), "course": course}

    told = cached.answer(f"cp {scene.subject} {scene.key} {scene.layer}", work)
    assert told is not None
    return told


def said(rows: pd.DataFrame) -> str:
    """What the rank with the largest pieces gains, and what rounding makes of it."""
    worst = rows.loc[rows["size"].idxmax()]
    off, rounded = (figures.text(worst[name], "share") for name in ("cp", "cp_rounded"))
    words = f"At rank {worst['rank']:.0f} the pieces are {worst['size']:.1f} times as large as the kernel that they add up to"
    if worst["size"] <= CANCELS:
        return f"{words}: here they hardly cancel, and {cp.BITS} bits do little. Choose a layer with more channels."
    if pd.isna(worst["tucker"]):
        return f"{words}. CP is off by {off} of its norm, and by {rounded} with its factors rounded to {cp.BITS} bits."
    others = [figures.text(worst[name], "share") for name in ("tucker", "tucker_rounded")]
    return (
        f"{words}. CP is off by {off} of its norm, Tucker by {others[0]}; with their factors rounded to {cp.BITS} bits, CP by "
        f"{rounded} and Tucker by {others[1]}. What moves a large piece a little moves the small sum a lot, and so does a "
        "step of training."
    )
