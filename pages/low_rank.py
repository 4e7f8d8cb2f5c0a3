"""Low rank: how much of a matrix is needed?"""

import streamlit as st
import torch
from torch import Tensor, nn

from engine import factors, zoo
from engine.types import Bundle
from pages.parts import charts, components, figures, frame
from pages.parts.frame import Look, Places
from pages.parts.pictures import legend, of_tensor


def form(look: Look) -> str:
    return "linear" if look.weight.dim() == 2 else str(look.step.settings["form"])


def has_split(bundle: Bundle, weight: str) -> bool:
    if not bundle.arch.runs:  # what kind of layer it is nobody knows: any matrix or kernel can be looked at
        return weight.endswith(".weight") and len(bundle.params[weight].shape) in (2, 4)
    module = zoo.skeleton(bundle.arch).get_submodule(weight.rpartition(".")[0])
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def scale(matrix: Tensor) -> float:
    """What the strongest colour stands for: the 99.5 % point of the magnitudes, so that outliers do not pale the rest."""
    return float(torch.quantile(matrix.abs().flatten()[:1_000_000], 0.995))


def still(look: Look) -> Places:
    values = factors.decompose(look.weight, form(look)).values
    quiet = {"displayModeBar": False}
    spectrum, cost = st.columns(2, gap="medium")
    with spectrum:
        st.subheader("Singular values, largest first", anchor=False)
        table = charts.ranked(values)
        line = charts.lines(table, "rank", "value", titles=("piece", "singular value"))
        st.plotly_chart(line, key="spectrum", config=quiet, alt=f"Singular values of {look.layer}")
    with cost:
        st.subheader("Smaller only below break-even", anchor=False)
        shape, kind = tuple(look.weight.shape), form(look)
        counts = [factors.weights_at(shape, kind, r) for r in range(1, len(values) + 1)]
        st.plotly_chart(
            charts.against_rank(counts, look.weight.numel()),
            key="cost",
            config=quiet,
            alt="Weights of the two thin layers against the rank, with the break-even line",
        )
    st.subheader("The matrix, its approximation and what is missing", anchor=False)
    places = {"pictures": st.container(key="moving-pictures")}
    st.html(legend(("#08519c", "positive"), ("#b35806", "negative")))
    st.subheader("Layer by layer", anchor=False)
    places["layers"] = st.container(key="moving-layers")
    for place in places.values():
        place.html("<span></span>")
    return places


def moving(look: Look, places: Places) -> None:
    row, kind = look.row, form(look)
    if not row or row["rank"] != row["rank"]:
        places["layers"].info(f"{look.layer} is left alone: {row.get('why', 'it is not part of this step')}.")
        return
    rank, even = int(row["rank"]), factors.break_even(tuple(look.weight.shape), kind)
    colour = charts.KEPT if rank < even else charts.REMOVED
    values = factors.decompose(look.weight, kind).values
    kept = f"rank {rank}: {100 * factors.energy(values, rank):.2f} % of the energy"
    verdict = "smaller" if rank < even else "bigger, so it is not split"
    components.marks(
        {
            "spectrum": [
                {
                    "kind": "band",
                    "from": rank + 0.5,
                    "to": int(row["full_rank"]) + 2,
                    "colour": charts.REMOVED,
                },
                {"kind": "line", "at": rank + 0.5, "colour": charts.REMOVED, "text": kept, "top": 32},
            ],
            "cost": [
                {
                    "kind": "line",
                    "at": even,
                    "colour": charts.ORIGINAL,
                    "dash": "5 4",
                    "text": f"break-even at {even:.1f}",
                    "top": 16,
                },
                {
                    "kind": "dot",
                    "x": rank,
                    "y": int(row["weights_after"])
                    if row["applied"]
                    else factors.weights_at(tuple(look.weight.shape), kind, rank),
                    "colour": colour,
                    "text": f"rank {rank}: {verdict}",
                },
            ],
        },
        key="rank-marks",
    )
    with places["pictures"]:
        near = factors.join(*factors.halves(factors.decompose(look.weight, kind), rank), kind)
        whole, thin = factors.matrix(look.weight, kind), factors.matrix(near, kind)
        reach = scale(whole)
        for column, title, part in zip(
            st.columns(3),
            ("original", f"rank {rank}", "difference"),
            (whole, thin, whole - thin),
            strict=True,
        ):
            column.html(of_tensor(charts.signed_map(part, reach), f"{look.layer}, {title}", 260, "both"))
            column.caption(title)
    with places["layers"]:
        st.html(
            figures.table(
                look.report.tables["layers"],
                {
                    "layer": figures.Column("layer"),
                    "full_rank": figures.Column("full rank"),
                    "rank": figures.Column("rank"),
                    "break_even": figures.Column("break-even"),
                    "energy_kept": figures.Column("energy kept", "share", charts.KEPT),
                    "weights_before": figures.Column("weights before"),
                    "weights_after": figures.Column("after"),
                    "applied": figures.Column("split"),
                    "why": figures.Column("why"),
                },
                look.layer,
            )
        )


frame.heading(
    "Low rank",
    "A matrix is a sum of rank-one pieces, largest first. Keeping the first few turns one layer into two thin ones. "
    "**Watch the dot cross the break-even line**: above rank mn / (m + n) the two thin layers are bigger than the original. "
    "Unlike zeros, this really saves multiplications, so it can be faster.",
)
frame.workbench("low_rank", still, moving, has_split)
