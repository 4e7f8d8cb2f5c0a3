"""Share weights: how few different values does a layer need?"""

from math import log2
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import torch

from engine.tensor import sharing
from engine.tensor.formats import Codebook
from engine.tensor.grids import decibels
from engine.tensor.index import Index
from engine.tensor.kmeans import kmeans
from engine.types import weight_layers
from pages.parts import cached, charts, drag, figures, frame, training, weight_maps
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Update
from pages.parts.pictures import legend, of_tensor

PAGE = {
    "title": "Share weights",
    "icon": "palette",
    "about": "Let weights share a few values, found by k-means.",
    "order": 65,
    "technique": "share_weights",
    "group": "Quantize",
}

FEW_STEPS = 3  # of Lloyd's, for what is shown while the slider moves
CURVE = (2, 4, 8, 16, 32, 64, 128, 256)


def hero(scene: Scene, place: Place) -> None:
    st.subheader("A few values for all weights", anchor=False)
    st.plotly_chart(
        charts.histogram(scene.weight, scene.layer),
        key="values",
        config={"displayModeBar": False},
        alt=f"Weights of {scene.layer} with the values that they share",
    )
    drag.handles(scene, "values")
    place("values")


def deeper(scene: Scene, place: Place) -> None:
    st.caption(
        "Sticks above: how many weights have each value, to scale with the tallest. A value that is dragged takes its "
        "weights along."
    )
    picture, curve = st.columns(2, gap="medium")
    with picture:
        st.subheader("Who shares with whom", anchor=False)
        place("clusters")
    with curve:
        st.subheader("Error against entries", anchor=False)
        empty = charts.plane(
            "bits of an index (2 to their power: entries)", "signal to noise, dB", (0.7, 8.3)
        )
        empty["layout"]["yaxis"] |= {"range": [0, max([20.0, *curve_of(scene)["ys"]]) + 5]}
        quiet = {"displayModeBar": False}
        st.plotly_chart(empty, key="curve", config=quiet, alt="Signal to noise ratio at 2 to 256 entries")
        place("curve")
        if isinstance(book_of(scene), Codebook) and len(entries_of(scene)):
            drag.fields(scene, entries_of(scene))
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    training.section(
        "train_centroids",
        "Train the shared values",
        "Each value moves by the summed gradients of its weights: a few epochs win back most of what sharing lost, "
        "and the file stays as small.",
    )


def book_of(scene: Scene) -> Any:
    return scene.after.params[weight_layers(scene.after)[scene.layer]]


def entries_of(scene: Scene) -> pd.DataFrame:
    """The entries of the chosen layer's table: columns entry, value, weights."""
    table = scene.report.tables.get("entries")
    if table is not None:
        return table[table["layer"] == scene.layer]
    return sharing.entries_in(scene.layer, scene.weight, book_of(scene).table[masked(scene) :], {})


def masked(scene: Scene) -> int:
    """1 where the first entry of the layer's codebook is that of its zeros."""
    return int(scene.row["shared"] < scene.row["weights"] and not book_of(scene).table[0])


def marks_of(values: list[float], weights: list[int], hand: list[int]) -> Marks:
    """A line for each value, and a stick as high as its weights."""
    colour = {"colour": charts.CHANGED}
    levels = {"kind": "levels", "at": values, "entries": True, "hand": hand, **colour}
    return {"values": [levels, {"kind": "sticks", "at": values, "heights": weights, **colour}]}


def kept_of(scene: Scene) -> Index:
    """The weights that compete for a table, without zeros."""
    common = sharing.together(scene.step.settings, scene.labels)
    return sharing.without_zeros(scene.index(tuple(common) if scene.layer in common else (scene.layer,)))


def curve_of(scene: Scene) -> dict[str, Any]:
    """Signal to noise at 2 to 256 entries: of the layer with a table of its own."""

    def work() -> dict[str, Any]:
        index = sharing.without_zeros(scene.index((scene.layer,)))
        signal = squares_of(index)
        noise = [decibels(signal, kmeans(index, k).sse) for k in CURVE] if len(index) else []
        points = [(log2(k), db) for k, db in zip(CURVE, noise, strict=False) if np.isfinite(db)]
        texts = [f"{2**bits:.0f} entries: {db:.1f} dB" for bits, db in points]
        return {"xs": [x for x, _ in points], "ys": [y for _, y in points], "texts": texts}

    path = cached.answer(f"shared {scene.subject} {scene.key} {scene.layer}", work)
    assert path is not None
    return path


def precompute(scene: Scene, setting: str, stops: list[int]) -> Precomputed | None:
    """The values at each number of entries, after a few steps of k-means from a quick start."""
    settings = scene.step.settings
    own = (*settings["leave_out"], *settings["per_layer"], *settings["tables"], *settings["by_hand"])
    if setting != "entries" or scene.layer in own:
        return None
    index = kept_of(scene)
    if not len(index):
        return None
    found = [kmeans(index, k, "density", steps=FEW_STEPS) for k in stops]
    return Precomputed([marks_of(each.table.tolist(), each.counts.tolist(), []) for each in found])


def update(scene: Scene) -> Update:
    book = book_of(scene)
    if not isinstance(book, Codebook) or not scene.row:
        empty = dict.fromkeys(("values", "clusters", "curve"), "")
        return Update(
            {"values": [], "curve": []}, {**empty, "layers": figures.left_out(scene.layer) + layers(scene)}
        )
    entries, noise = entries_of(scene), scene.row["sqnr_db"]
    hand = sharing.hand_of(
        scene.step.settings, scene.layer, sharing.together(scene.step.settings, scene.labels)
    )
    marks = marks_of(entries["value"].tolist(), entries["weights"].tolist(), [int(n) for n in hand])
    curve: list[dict[str, Any]] = [{"kind": "path", **curve_of(scene), "colour": charts.KEPT}]
    if np.isfinite(noise) and scene.row["entries"]:
        text = f"{scene.row['entries']} entries: {noise:.1f} dB"
        here = {"kind": "dot", "x": log2(scene.row["entries"]), "y": noise, "text": text, "below": True}
        curve.append({**here, "colour": charts.CHANGED})
    return Update(
        {**marks, "curve": curve},
        {
            "values": caption(said_of(scene, entries)),
            "clusters": clusters(scene, book),
            "curve": caption("One bit more doubles the entries and brings about 6 dB: half the error."),
            "layers": layers(scene),
        },
        lesson(scene),
    )


def lesson(scene: Scene) -> Lesson:
    """With what evenly spaced levels of as many bits lose, and the layer that its table costs most."""
    row, rows = scene.row, scene.report.tables["layers"]
    bits, even = int(row["index_bits"]), ""
    if bits > 1 and row["shared"] and np.isfinite(row["sqnr_db"]):
        index = sharing.without_zeros(scene.index((scene.layer,)))
        lost = index.on_grid(*index.affine(bits, True), bits, True).sse
        even = f", evenly spaced ones of {bits} bits {decibels(squares_of(index), lost):.1f}"
    table = 32 * rows["entries"] / rows["shared"].clip(lower=1)  # bits a weight that is not zero
    worst, own = rows.iloc[int(table.argmax())], float(table.max())
    return Lesson(
        f"The values go where weights are: {row['entries']} of them reach {row['sqnr_db']:.1f} dB{even}.",
        f"The table itself costs bytes: in {worst['layer']}, shared by {worst['shared']:,} weights, each takes "
        f"{worst['index_bits'] + own:.3g} bits instead of {worst['index_bits']}. And one value that moves takes all its "
        "weights along.",
        own > worst["index_bits"],
    )


def squares_of(index: Index) -> float:
    return float(index.split(np.zeros(0, np.float32)).squares[0])


def said_of(scene: Scene, entries: pd.DataFrame) -> str:
    """How many values there are, and what can be done with them."""
    row = scene.row
    zeros = row["weights"] - row["shared"]
    return (
        f"{row['entries']} values for {row['shared']:,} weights: {row['index_bits']} {'bit' if row['index_bits'] == 1 else 'bits'} each."
        + (f" {zeros:,} zeros take no entry." if zeros else "")
        + (" Drag a value at its foot." if len(entries) else "")
    )


def clusters(scene: Scene, book: Codebook) -> str:
    """The matrix with a colour for each value."""
    zero = masked(scene)
    table = book.table[zero:]
    order = table.argsort().argsort()  # one that was moved by hand may have passed its neighbours
    ranks = torch.cat([torch.full((zero,), -1), order]).float()
    picture = weight_maps.cluster_map(ranks[book.codes.long()], len(table))
    drawn = of_tensor(picture, f"{scene.layer}, painted by value", tall=300)
    ends = [0, len(table) // 2, len(table) - 1] if len(table) > 2 else range(len(table))
    rising = table.sort().values.tolist()
    colours = weight_maps.CLUSTER_COLOURS[[weight_maps.cluster_colour(i, len(table)) for i in ends]]
    words = [(f"rgb({r},{g},{b})", f"{rising[i]:.3g}") for i, (r, g, b) in zip(ends, colours, strict=True)]
    return drawn + legend(*words, *([("#ffffff", "zero")] if zero else []))


def layers(scene: Scene) -> str:
    """What sharing did to each layer."""
    return figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "weights": figures.Column("weights"),
            "shared": figures.Column("not zero"),
            "entries": figures.Column("entries"),
            "bits_per_weight": figures.Column("with table and mask", "bits"),
            "sqnr_db": figures.Column("signal to noise", "dB"),
            "by_hand": figures.Column("by hand"),
        },
        scene.layer,
    )


frame.heading(
    "Share weights",
    "How few different values does a layer need? **Move the slider from 256 entries to 4, then drag a value.**",
    "Each weight takes the nearest of a few shared values, which k-means puts where the weights are; only the number of "
    "the value is stored, and once per layer the table. Exact zeros take no entry. The file gets smaller; the model does "
    "not get faster here, because numbers are looked up before they are used.",
)
frame.workbench("share_weights", hero, update, precompute, deeper)
