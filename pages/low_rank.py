"""Low rank: how much of a matrix is needed?"""

import numpy as np
import streamlit as st
from torch import Tensor, nn

from engine.net import surgery, zoo
from engine.tensor import factors, precompute
from engine.types import Bundle
from pages.parts import charts, figures, frame, weight_maps
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Ahead, Look, Marks, Moving
from pages.parts.pictures import legend, of_tensor, rank_one, sampled, side_by_side, to_scale

PAGE = {
    "title": "Low rank",
    "icon": "call_split",
    "about": "Write a large matrix as the product of two thin ones.",
    "order": 70,
    "technique": "low_rank",
    "group": "Factor",
}

PIXELS = 300  # of a side of a picture, at most


def form(look: Look) -> str:
    return "linear" if look.weight.dim() == 2 else str(look.step.settings["form"])


def has_split(bundle: Bundle, weight: str) -> bool:
    if not bundle.arch.runs:  # what kind of layer it is nobody knows: any matrix or kernel can be looked at
        return weight.endswith(".weight") and len(bundle.params[weight].shape) in (2, 4)
    net, label = zoo.skeleton(bundle.arch), weight.rpartition(".")[0]
    if label and surgery.is_read_past(net, label):
        return False
    module = net.get_submodule(label)
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def scale(matrix: Tensor) -> float:
    """What the strongest colour stands for: the 99.5 % point of the magnitudes, so that outliers do not pale the rest."""
    sizes = np.abs(matrix.numpy().ravel()[:1_000_000])
    place = int(0.995 * (len(sizes) - 1))
    return float(np.partition(sizes, place)[place])


def hero(look: Look, place: Place) -> None:
    st.subheader("Smaller only below break-even", anchor=False)
    values, kind = factors.decompose(look.weight, form(look)).values, form(look)
    counts = [factors.weights_at(tuple(look.weight.shape), kind, r) for r in range(1, len(values) + 1)]
    st.plotly_chart(
        charts.against_rank(counts, look.weight.numel()),
        key="cost",
        config={"displayModeBar": False},
        alt="Weights of the two thin layers against the rank, with the break-even line",
    )


def deeper(look: Look, place: Place) -> None:
    parts = factors.decompose(look.weight, form(look))
    scaled, spectrum = st.columns(2, gap="medium")
    with scaled:
        st.subheader("One layer or two thin ones, to scale", anchor=False)
        place("thin")
    with spectrum:
        st.subheader("How strong each piece is", anchor=False)
        line = charts.lines(
            charts.ranked(parts.values), "rank", "value", titles=("piece", "singular value"), height=250
        )
        alt = f"Singular values of {look.layer}, largest first"
        st.plotly_chart(line, key="spectrum", config={"displayModeBar": False}, alt=alt)
    st.subheader("The matrix is a sum of rank-one pieces", anchor=False)
    whole = factors.matrix(look.weight, form(look))
    st.html(rank_one.drawn(parts, whole, scale(whole)))
    place("pictures")
    st.html(
        legend(("#08519c", "positive"), ("#b35806", "negative")) + figures.caption(sampled(whole, PIXELS))
    )
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def rank_marks(look: Look, rank: int) -> Marks:
    shape, kind = tuple(look.weight.shape), form(look)
    values, even = factors.decompose(look.weight, kind).values, factors.break_even(shape, kind)
    saves = factors.weights_at(shape, kind, rank) < look.weight.numel()
    words = "smaller" if saves else "no smaller, so it is not split"
    kept = f"rank {rank}: {100 * factors.energy(values, rank):.2f} % of the energy"
    beyond = {"kind": "band", "from": rank + 0.5, "to": len(values) + 2, "colour": charts.REMOVED}
    cut = {"kind": "line", "at": rank + 0.5, "colour": charts.REMOVED, "text": kept, "top": 32}
    limit = {"kind": "line", "at": even, "colour": charts.ORIGINAL, "dash": "5 4", "top": 16}
    here = {
        "kind": "dot",
        "x": rank,
        "y": factors.weights_at(shape, kind, rank),
        "colour": charts.KEPT if saves else charts.REMOVED,
        "text": f"rank {rank}: {words}",
    }
    return {"spectrum": [beyond, cut], "cost": [{**limit, "text": f"break-even at {even:.1f}"}, here]}


def foresee(look: Look, setting: str, stops: list[float]) -> Ahead | None:
    """The cut at each stop; not for layers that are left alone or have a rank of their own."""
    settings = look.step.settings
    if look.layer in (*settings["leave_out"], *settings["per_layer"]) or look.row["rank"] != look.row["rank"]:
        return None
    values = factors.decompose(look.weight, form(look)).values
    found = precompute.ranks(values, tuple(look.weight.shape), form(look), setting, stops)
    marks = {rank: rank_marks(look, rank) for rank in set(found)}
    return Ahead([marks[rank] for rank in found])


def moving(look: Look) -> Moving:
    row, kind = look.row, form(look)
    table = layers(look)
    if not row or row["rank"] != row["rank"]:
        words = f"{look.layer} is left alone: {row.get('why', 'it is not part of this step')}."
        blank = {"pictures": "", "thin": "", "layers": figures.notice(words) + table}
        return Moving({"spectrum": [], "cost": []}, blank, lesson(look, None))
    rank, parts = int(row["rank"]), factors.decompose(look.weight, kind)
    near = factors.join(*factors.halves(parts, rank), kind)
    whole, thin = factors.matrix(look.weight, kind), factors.matrix(near, kind)
    reach = scale(whole)
    titles = ("original", f"the first {rank} pieces", "what is missing")
    pictures = side_by_side(
        (of_tensor(weight_maps.signed_map(part, reach, PIXELS), f"{look.layer}, {title}", 200, "both"), title)
        for title, part in zip(titles, (whole, thin, whole - thin), strict=True)
    )
    html = {
        "pictures": pictures,
        "layers": table,
        "thin": to_scale.drawn(tuple(whole.shape), rank, look.layer),
    }
    return Moving(rank_marks(look, rank), html, lesson(look, rank))


def lesson(look: Look, rank: int | None) -> Lesson:
    """How many pieces the layer needs, and whether two thin layers are bigger: both counts of weights."""
    shape, kind = tuple(look.weight.shape), form(look)
    values, even = factors.decompose(look.weight, kind).values, factors.break_even(shape, kind)
    most, need = len(values), factors.rank_for_energy(values, 0.9)
    limit = f"rank {even:.1f}, mn / (m + n)"
    cost = ""
    if rank is not None:
        thin, whole = factors.weights_at(shape, kind, rank), look.weight.numel()
        word = "fewer" if thin < whole else "bigger, so it stays whole"
        cost = f" At rank {rank} they have {thin:,} weights, {look.layer} has {whole:,}: {word}."
    return Lesson(
        f"Nets are less low-rank than photos: {look.layer} needs {need} of its {most} pieces for 90 % of its sum of squares. "
        "A cut through a flat spectrum loses much.",
        f"Above {limit}, two thin layers are bigger than the one they replace.{cost}",
        rank is not None and rank > even,
    )


def layers(look: Look) -> str:
    rows = look.report.tables["layers"]
    split = rows.assign(energy_kept=rows["energy_kept"].where(rows["applied"]))  # others keep all they have
    return figures.table(
        split,
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


frame.heading(
    "Low rank",
    "How much of a matrix is needed? **Watch the dot cross the break-even line: above it, two thin layers are bigger.**",
    "A matrix is a sum of rank-one pieces, largest first. Keeping the first few turns one layer into two thin ones; above "
    "rank mn / (m + n) these are bigger than the original. Unlike zeros, this really saves multiplications, so it can be "
    "faster.",
)
frame.workbench("low_rank", hero, moving, foresee, deeper, has_split)
