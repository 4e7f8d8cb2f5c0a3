"""Low rank: how much of a matrix is needed?"""

import numpy as np
import streamlit as st
from torch import Tensor, nn

from engine.figures import low_rank as told
from engine.net import surgery, zoo
from engine.tensor import factors, splits
from engine.tensor.splits import Pair, Split, Triple
from engine.types import Bundle
from pages.parts import charts, components, cp_lab, figures, frame, rank_latency, weight_maps
from pages.parts.fold import fold
from pages.parts.frame import Place
from pages.parts.layer_ranks import found, lesson, rank_marks, split_of, tried
from pages.parts.live import Precomputed, Scene, Update
from pages.parts.pictures import (
    by_rank,
    legend,
    of_tensor,
    rank_one,
    sampled,
    side_by_side,
    surface,
    to_scale,
)

PAGE = {
    "title": "Low rank",
    "icon": "call_split",
    "about": "Write a large matrix as the product of two thin ones.",
    "order": 70,
    "technique": "low_rank",
    "group": "Factor",
}

PIXELS = 300  # of a side of a picture, at most


def flat(weight: Tensor, split: Split) -> Tensor:
    """A weight as the matrix that is drawn: Tucker's kernels have their outputs as rows."""
    return factors.matrix(weight, "channel" if isinstance(split, Triple) else split.form)


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


def hero(scene: Scene, place: Place) -> None:
    split, quiet = split_of(scene), {"displayModeBar": False}
    if isinstance(split, Triple):
        st.subheader(
            "The error at both ranks",
            anchor=False,
            help="Exact at all pairs, from one decomposition. Drag the point: the layer has these ranks of its own then, "
            "which the panel has under Layer by layer.",
        )
        alt = "Error of the weights at each rank of the inputs and of the outputs, with the break-even line"
        st.plotly_chart(surface.drawn(split), key=surface.KEY, config=quiet, alt=alt)
        components.point()
        return
    st.subheader("Smaller only below break-even", anchor=False)
    counts = [split.weights((rank,)) for rank in range(1, split.full[0] + 1)]
    alt = "Weights of the two thin layers against the rank, with the break-even line"
    st.plotly_chart(by_rank.against_rank(counts, scene.weight.numel()), key="cost", config=quiet, alt=alt)


def deeper(scene: Scene, place: Place) -> None:
    split = split_of(scene)
    if isinstance(split, Pair):
        _pieces(scene, split, place)
    else:
        st.subheader("One layer or three, in weights", anchor=False)
        place("thin")
        st.subheader("The kernels, outputs as rows", anchor=False)
    place("pictures")
    st.html(
        legend(("#08519c", "positive"), ("#b35806", "negative"))
        + figures.caption(sampled(flat(scene.weight, split), PIXELS))
    )
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    place("tried")
    fold(rank_latency.TITLE, "rank-latency", lambda: rank_latency.draw(scene))
    fold(cp_lab.TITLE, "cp", lambda: cp_lab.draw(scene))


def _pieces(scene: Scene, split: Pair, place: Place) -> None:
    """The matrix as a sum, how strong each piece is, and two thin layers to scale."""
    scaled, spectrum = st.columns(2, gap="medium")
    with scaled:
        st.subheader("One layer or two thin ones, to scale", anchor=False)
        place("thin")
    of_outputs = found(scene).outputs is not None
    with spectrum:
        st.subheader("How strong each piece is", anchor=False)
        value = "root mean square of the outputs" if of_outputs else "singular value"
        line = charts.lines(
            by_rank.ranked(split.parts.values), "rank", "value", titles=("piece", value), height=185
        )
        alt = f"Strength of the pieces of {scene.layer}, largest first: {value}"
        st.plotly_chart(line, key="spectrum", config={"displayModeBar": False}, alt=alt)
    st.subheader("The matrix is a sum of rank-one pieces", anchor=False)
    whole = flat(scene.weight, split)
    st.html(rank_one.drawn(split.parts, whole, scale(whole), "squared outputs" if of_outputs else "squares"))


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    """The cut at each stop; not for layers that are left alone or have ranks of their own, nor under a budget."""
    settings = scene.step.settings
    own = (*settings["leave_out"], *settings["per_layer"], *settings["input_ranks"])
    if scene.layer in own or scene.row["rank"] != scene.row["rank"]:
        return None
    if setting != settings["by"] or setting == "budget":
        return None
    split = split_of(scene)
    ranks = [splits.chosen(split, setting, stop) for stop in stops]
    marks = {own: rank_marks(scene, split, own) for own in set(ranks)}
    return Precomputed([marks[own] for own in ranks])


def update(scene: Scene) -> Update:
    row, table = scene.row, layers(scene)
    if not row or row["rank"] != row["rank"]:
        words = f"{scene.layer} is left alone: {row.get('why', 'it is not part of this step')}."
        blank = {"pictures": "", "thin": "", "layers": figures.notice(words) + table, "tried": tried(scene)}
        return Update({"spectrum": [], "cost": [], surface.KEY: []}, blank, lesson(scene, None))
    split = split_of(scene)
    ranks = (int(row["rank"]),) if isinstance(split, Pair) else (int(row["rank"]), int(row["input_rank"]))
    whole, thin = flat(scene.weight, split), flat(split.product(ranks), split)
    reach = scale(whole)
    pieces = f"the first {ranks[0]} pieces" if isinstance(split, Pair) else "what three layers do"
    pictures = side_by_side(
        (
            of_tensor(weight_maps.signed_map(part, reach, PIXELS), f"{scene.layer}, {title}", 130, "both"),
            title,
        )
        for title, part in zip(
            ("original", pieces, "what is missing"), (whole, thin, whole - thin), strict=True
        )
    )
    to_compare = (
        to_scale.drawn(tuple(whole.shape), ranks[0], scene.layer)
        if isinstance(split, Pair)
        else figures.caption(surface.said(split, ranks))
    )
    html = {"pictures": pictures, "layers": table, "thin": to_compare, "tried": tried(scene)}
    taught = lesson(scene, None if row["why"] == told.WHOLE else ranks)
    return Update(rank_marks(scene, split, ranks), html, taught)


COLUMNS = {
    "layer": figures.Column("layer"),
    "full_rank": figures.Column("full rank"),
    "rank": figures.Column("rank"),
    "input_rank": figures.Column("of inputs"),
    "break_even": figures.Column("break-even"),
    "energy_kept": figures.Column("energy kept", "share", charts.KEPT),
    "output_error_plain": figures.Column("output error, for the weights", "share"),
    "output_error": figures.Column("for the outputs", "share"),
    "kl_alone": figures.Column("KL, split alone", "nat"),
    "weights_before": figures.Column("weights before"),
    "weights_after": figures.Column("after"),
    "applied": figures.Column("split"),
    "why": figures.Column("why"),
}


def layers(scene: Scene) -> str:
    rows = scene.report.tables["layers"]
    split = rows.assign(energy_kept=rows["energy_kept"].where(rows["applied"]))  # others keep all they have
    return figures.table(split, {name: own for name, own in COLUMNS.items() if name in rows}, scene.layer)


frame.heading(
    "Low rank",
    "How much of a matrix is needed? **Watch the dot cross the break-even line: above it, thin layers are bigger.**",
    "A matrix is a sum of rank-one pieces, largest first. Keeping the first few turns one layer into two thin ones; above "
    "rank mn / (m + n) these are bigger than the original. Unlike zeros, this really saves multiplications, so it can be "
    "faster.",
)
frame.workbench("low_rank", hero, update, precompute, deeper, has_split)
