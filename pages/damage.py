"""Damage: is the smallest weight the one that hurts least?"""

import pandas as pd
import streamlit as st
from torch import Tensor

from engine.figures import count
from engine.techniques.prune.optimal_brain_damage import SALIENCY
from engine.types import Bundle
from pages.parts import charts, figures, frame, training, weight_maps
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Update
from pages.parts.pictures import kept_legend, of_tensor, predictions

PAGE = {
    "title": "Optimal brain damage",
    "icon": "healing",
    "about": "Remove what the loss should miss least, and look if it does.",
    "order": 40,
    "technique": "optimal_brain_damage",
    "group": "Prune",
}

QUIET = {"displayModeBar": False}


def runs(bundle: Bundle, weight: str) -> bool:
    return bundle.arch.runs


def hero(scene: Scene, place: Place) -> None:
    predicted = scene.report.tables["predicted"]
    groups = predicted[predicted["removed"] != "one weight"]
    total = sum(weight.numel() for _, weight in count.weights(scene.before))
    st.subheader("Many at once, by either order", anchor=False)
    saliency = groups[groups["removed"] == SALIENCY]
    precomputed = saliency.assign(removed=f"{SALIENCY}, as predicted", measured=saliency["predicted"])
    both = pd.concat([groups, precomputed]).assign(share=lambda rows: rows["weights"] / total)
    st.plotly_chart(
        charts.lines(
            both,
            "share",
            "measured",
            "removed",
            titles=("share removed", "rise of the loss (nat)"),
            height=250,
        ),
        key="groups",
        config=QUIET,
        alt="Rise of the loss against the share removed, by saliency and by magnitude, and as predicted",
    )


def deeper(scene: Scene, place: Place) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        singles(scene)
        st.subheader("Which ones go", anchor=False)
        place("map")
        st.html(of_tensor(weight_maps.kept_map(scene.weight), f"{scene.layer} before pruning", 300, "was"))
        st.html(kept_legend(of=scene.weight))
    with right:
        place("figures")
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    training.section(
        "finetune",
        "Win accuracy back",
        "LeCun removes a little, trains, and works the curvature out anew: nothing else keeps the prediction true.",
    )


def singles(scene: Scene) -> None:
    """Single weights: the true change of the loss against the predicted one."""
    predicted = scene.report.tables["predicted"]
    alone = predicted[predicted["removed"] == "one weight"]
    st.subheader("One weight at a time", anchor=False)
    slope = st.toggle(
        "Add the slope",
        key="slope",
        help="A weight that goes moves the loss along its slope, too: h w² / 2 - g w. Only at a minimum is g zero.",
    )
    column = "both" if slope else "predicted"
    st.plotly_chart(
        predictions.sizes(
            alone,
            column,
            "measured",
            "layer",
            ("size of the predicted change (nat)", "size of the true change (nat)"),
        ),
        key="singles",
        config=QUIET,
        alt="True change of the loss without one weight against the predicted one, for weights picked by chance",
    )
    st.caption(said_of(alone, column))


def said_of(singles: pd.DataFrame, column: str) -> str:
    """How to read the picture of single weights, and how many it leaves out."""
    undrawn = int(((singles[column] == 0) | (singles["measured"] == 0)).sum())
    left_out = (
        f" Not drawn: {undrawn} of {len(singles)} with a change of zero, predicted or true."
        if undrawn
        else ""
    )
    return f"Where a point is hollow, the loss fell and should have risen, or the other way round.{left_out}"


def here(zeros: float) -> Marks:
    words = f"{100 * zeros:.4g} % zero"
    return {"groups": [{"kind": "line", "at": zeros, "colour": charts.REMOVED, "text": words}]}


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    if setting != "sparsity":
        return None
    weights = [weight for _, weight in count.weights(scene.before)]
    sizes, zeros = [w.numel() for w in weights], [int((w == 0).sum()) for w in weights]
    if scene.step.settings["allocation"] == "global":
        sizes, zeros = [sum(sizes)], [sum(zeros)]

    def at(stop: float) -> float:  # what is zero already stays so
        return sum(max(stop * n, z) for n, z in zip(sizes, zeros, strict=True)) / sum(sizes)

    return Precomputed([here(at(stop)) for stop in stops])


def update(scene: Scene) -> Update:
    after: Tensor = dict(count.weights(scene.after))[scene.layer]
    table = figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "weights": figures.Column("weights"),
            "kept": figures.Column("kept"),
            "sparsity": figures.Column("removed", "share", charts.REMOVED),
            "energy_kept": figures.Column("energy kept", "share", charts.KEPT),
            "predicted": figures.Column("predicted rise"),
        },
        scene.layer,
    )
    layers = scene.report.tables["layers"]
    row = (figures.Tile(f.name.capitalize(), f, figures.said(f)) for f in scene.report.figures[1:])
    return Update(
        here(1 - float(layers["kept"].sum()) / float(layers["weights"].sum())),
        {
            "figures": figures.tiles(row),
            "map": of_tensor(
                weight_maps.kept_map(after), f"Map of {scene.layer}: kept and removed weights", 300
            ),
            "layers": table,
        },
        lesson(scene),
    )


def lesson(scene: Scene) -> Lesson:
    known = {figure.name: figure.value for figure in scene.report.figures}
    by_size, by_curve = (known.get(f"rank correlation of {of}") for of in ("magnitude", "saliency"))
    precomputed, true = known.get("predicted rise of the loss"), known.get("rise of the loss")
    ranked = (
        ""
        if by_size is None or by_curve is None
        else f": rank correlation {by_curve:.2f} against {by_size:.2f}"
    )
    rise = "" if precomputed is None or true is None else f": {true:.2g} nat, predicted {precomputed:.2g}"
    return Lesson(
        "Size is not importance: the curvature of the loss tells better than the size of a weight which one would hurt"
        f"{ranked}.",
        f"The prediction takes one weight at a time, at a minimum. Together they cost more{rise}; and training has left "
        "a slope that it leaves out.",
        bool(precomputed and true and true > 2 * precomputed),
    )


frame.heading(
    "Optimal brain damage",
    "Is the smallest weight the one that hurts least? **Compare what the curvature predicts with what the loss does.**",
    "A small weight can matter, and a large one can be idle. Optimal brain damage asks the curvature of the loss: a weight "
    "w with second derivative h costs about h w² / 2. It takes one weight at a time, at a minimum that training hardly ever "
    "reaches.",
)
frame.workbench("optimal_brain_damage", hero, update, precompute, deeper, runs)
