"""Prune: how many weights can go before the model forgets?"""

import numpy as np
import pandas as pd
import streamlit as st

from engine.figures import count
from engine.recipe import technique
from engine.tensor import ranking
from engine.tensor.precompute import MOST_STOPS, stop_of_removal
from engine.types import Report
from pages.parts import charts, components, figures, frame, race, sensitivity, training, weight_maps
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Thumbnail, Update
from pages.parts.pictures import kept_legend, of_tensor, sorted_weights

PAGE = {
    "title": "Prune",
    "icon": "content_cut",
    "about": "Set small weights to zero and watch accuracy hold, then fall.",
    "order": 10,
    "technique": "prune_weights",
    "group": "Prune",
}


OTHERS = {"global": "one threshold for all", "each": "one for each layer"}  # ways to share a sparsity out
TALL = 260  # pixels of the map


def hero(scene: Scene, place: Place) -> None:
    st.subheader("Most weights are close to zero", anchor=False)
    st.plotly_chart(
        charts.histogram(scene.weight, scene.layer),
        key="weights",
        config={"displayModeBar": False},
        alt=f"Histogram of the weights of {scene.layer}; the band around zero is removed",
    )
    components.handle()


def deeper(scene: Scene, place: Place) -> None:
    by_size, which = st.columns(2, gap="medium")
    with by_size:
        sorted_weights.draw(scene)
    with which:
        st.subheader("Which ones go", anchor=False)
        place("map")
        st.html(of_tensor(weight_maps.kept_map(scene.weight), f"{scene.layer} before pruning", TALL, "was"))
        st.html(kept_legend(of=scene.weight))
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    training.section(
        "finetune",
        "Win accuracy back",
        "A few epochs of training on what is left, with the zeros kept: most of what pruning lost comes back.",
    )
    iterating()
    race.section()
    if technique.get("prune_weights").knobs["sparsity"].visible(scene.step.settings):
        sensitivity.section(
            "prune_weights", "sparsity", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98], "share of weights removed"
        )


def iterating() -> None:
    training.section(
        "prune_iteratively",
        "A little at a time",
        "Pruning and training in turns lets the model adapt before the next weights go: far more can go than at once. "
        "Use it in place of pruning and fine-tuning.",
        rounds,
    )


def rounds(report: Report) -> None:
    """What the pruning of each round cost, and what training won back."""
    if "rounds" in report.tables:
        told = report.tables["rounds"].melt(["round", "sparsity"], var_name="when", value_name="accuracy")
        st.caption("The gap at each round is what its pruning cost, and its training won back.")
        st.plotly_chart(
            charts.lines(
                told,
                "sparsity",
                "accuracy",
                "when",
                titles=("share of weights removed", "validation accuracy"),
                percent=True,
            ),
            key="rounds",
            config={"displayModeBar": False},
            alt="Validation accuracy against the share removed, before and after the training of each round",
        )
    if "sensitivity" in report.tables:
        st.caption("What each layer bore alone, before the first round:")
        borne = {
            "layer": figures.Column("layer"),
            "sparsity": figures.Column("removed", "share", charts.REMOVED),
            "threshold": figures.Column("threshold"),
            "accuracy": figures.Column("validation accuracy", "share"),
        }
        st.html(figures.table(report.tables["sensitivity"], borne))
    columns = {
        "layer": figures.Column("layer"),
        "weights": figures.Column("weights"),
        "kept": figures.Column("kept"),
        "sparsity": figures.Column("removed", "share", charts.REMOVED),
    }
    st.html(figures.table(report.tables["layers"], columns))


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    """Band and small map at each stop; not for layers with a setting of their own, nor where size does not decide."""
    if sorted_weights.slider(scene) is None:
        return None
    table = sorted_weights.removals(scene, setting, stops)
    marks = [sorted_weights.marks(row.threshold, row.sparsity) for row in table.itertuples()]
    if len(stops) > MOST_STOPS:
        return Precomputed(marks)
    small = weight_maps.as_picture(scene.weight, 256)
    goes = stop_of_removal(np.abs(small), table["cut"].tolist())
    return Precomputed(marks, Thumbnail("map", weight_maps.kept_map(scene.weight, 256), goes))


def update(scene: Scene) -> Update:
    row, by_size = scene.row, ranking.by_size(scene.step.settings)
    after = dict(count.weights(scene.after)).get(scene.layer, scene.weight)
    picture = of_tensor(weight_maps.kept_map(after), f"Map of {scene.layer}: kept and removed weights", TALL)
    rows = beside(scene)
    other = [name for name in OTHERS if name in rows]
    table = figures.table(
        rows,
        {
            "layer": figures.Column("layer"),
            "weights": figures.Column("weights"),
            "kept": figures.Column("kept"),
            "sparsity": figures.Column(
                f"removed{''.join(f', {OTHERS[n]}' for n in OTHERS if len(other) and n not in other)}",
                "share",
                charts.REMOVED,
            ),
            **{name: figures.Column(OTHERS[name], "share", charts.ORIGINAL) for name in other},
            "threshold": figures.Column("threshold" if by_size else "largest removed"),
            "energy_kept": figures.Column("energy kept", "share", charts.KEPT),
            **(
                {"within": figures.Column("give or take", "share")}
                if "within" in scene.report.tables["layers"]
                else {}
            ),
        },
        scene.layer,
    )
    if not row:
        table = figures.left_out(scene.layer) + table
    marks: Marks = {sorted_weights.HISTOGRAM: [], sorted_weights.CHART: []}
    if row and by_size:
        marks = sorted_weights.with_places(scene, sorted_weights.marks(row["threshold"], row["sparsity"]))
    return Update(marks, {"map": picture, "layers": table}, lesson(scene))


def beside(scene: Scene) -> pd.DataFrame:
    """The report's layers, with what the other way of sharing the same sparsity out would take from each."""
    layers, settings = scene.report.tables["layers"], scene.step.settings
    if settings["by"] != "sparsity" or not ranking.by_threshold(settings) or len(layers) < 2:
        return layers
    other, way = ("each", "layer") if settings["allocation"] == "global" else ("global", "global")
    shares = ranking.shares_removed({**settings, "allocation": way}, scene.labels, scene.index)
    return layers.assign(**{other: layers["layer"].map(shares)})


def lesson(scene: Scene) -> Lesson:
    row, near = scene.row, "Most weights are near zero."
    if row:
        gone, held = (figures.text(part, "share") for part in (row["sparsity"], 1 - row["energy_kept"]))
        near = f"Most weights are near zero: the {gone} of {scene.layer} that go hold {held} of its sum of squares."
    size = figures.text(4 * row["weights"] if row else 4 * scene.weight.numel(), "B")
    return Lesson(
        f"{near} Accuracy stays flat for long, then falls off a cliff.",
        f"Zeros alone save nothing: as 32-bit numbers {scene.layer} takes {size} before and after. The file is smaller "
        "because it is encoded; the model does not get faster.",
    )


frame.heading(
    "Prune",
    "How many weights can go before the model forgets? **Move the slider towards 98 % and watch where accuracy falls.**",
    "A trained model has many weights close to zero. Setting them to exactly zero hardly changes its answers, up to a "
    "point. The file shrinks because zeros are stored in almost no space; the model does not get faster, because a zero "
    "is multiplied like any other number.",
)
frame.workbench("prune_weights", hero, update, precompute, deeper)
