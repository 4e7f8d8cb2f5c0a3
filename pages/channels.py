"""Channels: from how few inputs can a layer still make its outputs?"""

import numpy as np
import pandas as pd
import streamlit as st
import torch

from engine.net import channels
from engine.net.readers import channels_left
from engine.techniques.prune.prune_channels import prunable
from engine.types import Bundle, Report, SlimscopeError
from pages.parts import charts, figures, frame, training, weight_maps
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Update
from pages.parts.pictures import kept_legend, legend, of_tensor

PAGE = {
    "title": "Channels",
    "icon": "lan",
    "about": "Read fewer channels, and refit the weights to those that are left.",
    "order": 30,
    "technique": "prune_channels",
    "group": "Prune",
}

ERRORS = (
    ("error_masked", charts.REMOVED, "channels only left out"),
    ("error_refit", charts.KEPT, "weights refitted"),
)


def reads_channels(bundle: Bundle, weight: str) -> bool:
    """Whether the inputs of this layer can go: one layer makes them, and no other reads them."""
    try:
        return weight.removesuffix(".weight") in prunable(bundle)
    except SlimscopeError:
        return False


def hero(scene: Scene, place: Place) -> None:
    group = next(
        g for g in channels.groups(scene.before).values() if g.reads[0].param == f"{scene.layer}.weight"
    )
    st.subheader("Fewer inputs, more error", anchor=False)
    st.plotly_chart(
        charts.box(
            "channels that the layer still reads", "error of its outputs", (0, group.channels), (0, 1)
        ),
        key="path",
        config={"displayModeBar": False},
        alt=f"Error of the outputs of {scene.layer} against the number of channels it reads, with and without refit",
    )
    place("legend")


def deeper(scene: Scene, place: Place) -> None:
    st.caption(
        "The curves above are of this layer pruned alone. The dot is where it stands: the layers before it are pruned, "
        "too, so that even the channels that it keeps bring something else."
    )
    place("figures")
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    condensing()
    training.section(
        "finetune",
        "Win accuracy back",
        "The refit looks at one layer at a time; a few epochs of training let all layers adapt together.",
    )


def condensing() -> None:
    """Each group of filters learns which channels it reads."""
    training.section(
        "condense",
        "Let groups of filters choose",
        "While the model trains, each group of filters drops the channels that it uses least, until it reads a few of its "
        'own choice. What is left is an ordinary convolution in groups behind a gather, dense and small; "Is it faster here?" '
        "under Ship it times it. Use it in place of the slider.",
        wiring_of,
    )


def wiring_of(report: Report) -> None:
    """Which group of filters reads which channel."""
    table = report.tables["reads"]
    labels = list(dict.fromkeys(table["layer"]))
    label = st.selectbox(
        "Condensed layer", labels, key="condensed-layer", help="Whose wiring is drawn below."
    )
    own = table[table["layer"] == label].pivot(index="group", columns="channel", values="size")
    kept = table[table["layer"] == label].pivot(index="group", columns="channel", values="kept")
    wiring = torch.tensor((own * kept).to_numpy())
    st.html(of_tensor(weight_maps.kept_map(wiring), f"Which group of filters of {label} reads which channel"))
    st.html(kept_legend("read (darker is larger)", "dropped"))
    st.caption(f"A row for each group of filters of {label}, a column for each channel that enters.")


def alone(scene: Scene) -> pd.DataFrame:
    """The chosen layer's curves: a row for each number of channels that it may read."""
    path = scene.report.tables["path"]
    return path[path["layer"] == scene.layer].sort_values("kept")


def curves(scene: Scene, *dots: tuple[int, float, str]) -> Marks:
    """Error against channels kept, with and without refit, and a dot under its words: channels kept, error, words."""
    own = alone(scene)
    marks = [
        {"kind": "path", "xs": own["kept"].tolist(), "ys": own[column].tolist(), "colour": colour}
        for column, colour, _ in ERRORS
        if len(own)
    ]
    for kept, error, words in dots:
        marks.append({"kind": "line", "at": kept, "colour": charts.CHANGED, "dash": "2 4", "text": words})
        marks.append({"kind": "dot", "x": kept, "y": error, "colour": charts.CHANGED})
    return {"path": marks}


def judged(scene: Scene) -> str:
    """The column of the error that the settings ask for."""
    return "error_refit" if scene.step.settings["refit"] else "error_masked"


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    """The dot on the layer's own curve, until the server knows what the layers before it bring."""
    settings, own = scene.step.settings, alone(scene)
    if setting != "removed" or scene.layer in (*settings["leave_out"], *settings["removed_per_layer"]):
        return None
    of = int(own["kept"].max())
    left = [channels_left(of, stop) for stop in stops]
    errors = np.interp(left, own["kept"], own[judged(scene)])
    dots = [(kept, error, f"{kept} of {of} channels") for kept, error in zip(left, errors, strict=True)]
    return Precomputed([curves(scene, *([dot] if dot[0] < of else [])) for dot in dots])


def update(scene: Scene) -> Update:
    table = figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "channels": figures.Column("channels read"),
            "kept": figures.Column("kept"),
            "error_masked": figures.Column("error, left out", "share", charts.REMOVED),
            "error_refit": figures.Column("error, refitted", "share", charts.KEPT),
            "macs_before": figures.Column("MACs before"),
            "macs_after": figures.Column("after"),
        },
        scene.layer,
    )
    shown = (figures.Tile(figures.titled(f.name), f, figures.said(f)) for f in scene.report.figures[1:])
    colours = legend(*((colour, words) for _, colour, words in ERRORS))
    row = scene.row
    dots = []
    if row and row["removed"]:
        kept, error = row["kept"], row[judged(scene)]
        dots.append((kept, error, f"{kept} of {row['channels']} channels: {100 * error:.3g} % off"))
    html = {"legend": colours, "figures": figures.tiles(shown), "layers": table}
    return Update(curves(scene, *dots), html, lesson(scene))


def lesson(scene: Scene) -> Lesson:
    row, won = scene.row, ""
    if row and row["removed"]:
        left_out, refitted = (figures.text(row[name], "share") for name in ("error_masked", "error_refit"))
        won = f": without it {scene.layer} would be {left_out} off, with it {refitted}"
    worst = scene.report.tables["layers"].sort_values("error_refit")["error_refit"].dropna()
    most = f", {figures.text(worst.iloc[-1], 'share')} here" if len(worst) else ""
    return Lesson(
        f"Channels repeat each other, so a refit by least squares makes up for those that are gone{won}.",
        f"Each layer is fitted alone, on samples: the worst error{most}, is no accuracy, and the errors of layers "
        "add up. Look at the accuracy.",
    )


frame.heading(
    "Channels",
    "From how few inputs can a layer still make its outputs? **The gap between the curves is what a refit wins back.**",
    "A layer reads many channels that say nearly the same. A LASSO finds those from which its outputs can be made again, "
    "and least squares refits its weights to them, without training. The filters that made the other channels go for good.",
)
frame.workbench("prune_channels", hero, update, precompute, deeper, reads_channels)
