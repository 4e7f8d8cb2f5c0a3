"""Filters: what goes along when a whole filter goes?"""

from itertools import groupby

import streamlit as st
import torch

from engine.net import channels
from engine.net.channels import Group
from engine.types import Bundle, Report, SlimscopeError
from pages.parts import charts, coupled, figures, frame, knobs, sensitivity, training, weight_maps
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Precomputed, Scene, Update
from pages.parts.pictures import by_rank, kept_legend, of_tensor, sampled, side_by_side

PAGE = {
    "title": "Filters",
    "icon": "account_tree",
    "about": "Remove whole filters, and all that goes with them.",
    "order": 20,
    "technique": "prune_filters",
    "group": "Prune",
}

PIXELS = 400  # of a side of a picture, at most


def makes_channels(bundle: Bundle, weight: str) -> bool:
    try:
        known = channels.groups(bundle).values()
    except SlimscopeError:
        return False
    settings = knobs.current("prune_filters").settings
    open_to = (g for g in known if settings["residual"] or not g.stream or g.name in settings["by_hand"])
    return any(weight == part.param for group in open_to for part in group.makes)


def groups_of(scene: Scene) -> list[Group]:
    """The groups of the layer's filters, first the one that begins there: a late layer of a stream has several."""
    known = [group for group in channels.groups(scene.before).values() if scene.layer in group.layers]
    return sorted(known, key=lambda group: group.name != scene.layer)


def group_of(scene: Scene) -> Group:
    return groups_of(scene)[0]


def hero(scene: Scene, place: Place) -> None:
    filters = scene.report.tables["filters"]
    own = filters[filters["layer"] == scene.layer].sort_values("score", kind="stable")
    st.subheader("Filters, smallest first", anchor=False)
    st.plotly_chart(
        by_rank.ranking(own["score"].tolist(), own["filter"].tolist(), "filter, by rank", "score"),
        key="ranking",
        config={"displayModeBar": False},
        alt=f"Scores of the filters of {scene.layer}, sorted; those in the band go",
    )


def deeper(scene: Scene, place: Place) -> None:
    st.subheader("A filter takes a slice of the next layer along", anchor=False)
    place("maps")
    st.html(kept_legend(removed="gone for good"))
    st.subheader("Layer by layer", anchor=False)
    place("layers")
    coupled.explorer(scene, group_of(scene))
    slimming()
    training.section(
        "finetune",
        "Win accuracy back",
        "A few epochs of training on the narrower model: with whole filters gone, it nearly always needs them.",
    )
    alone = [name for name, group in channels.groups(scene.before).items() if not group.stream]
    shares = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75]
    sensitivity.section("prune_filters", "removed", shares, "share of filters removed", alone)


def slimming() -> None:
    """The model chooses by itself which channels it can spare."""
    training.section(
        "slim",
        "Let the model choose",
        "A penalty pulls batch-norm's scales to zero while the model trains: each channel must earn its place. Those that "
        "fade are taken out, and the narrow model is trained once more. Use it in place of the slider.",
        scales,
    )


def scales(report: Report) -> None:
    """The scales of all channels before and after the training with the penalty."""
    st.plotly_chart(
        by_rank.falling(report.tables["scales"], {"before": "as it came", "trained": "under the penalty"}),
        key="scales",
        config={"displayModeBar": False},
        alt="Batch-norm scales of all channels, sorted, before and after the training with the penalty",
    )
    st.caption(
        "Each curve has every channel's scale, the largest first. The penalty parts those that the model needs from those "
        "that it can spare; channels right of the line have gone. Where layers lose the same share each, the line is the "
        "number of channels that stay, not one cut through all."
    )


def removed(ranks: list[int], of: int) -> Marks:
    """Bands over the ranks (from 1, ascending) of the filters that go: one for each run of neighbours."""
    words = {"text": f"{len(ranks)} of {of} filters go"}
    neighbours = groupby(enumerate(ranks), key=lambda pair: pair[1] - pair[0])
    runs = [[rank for _, rank in run] for _, run in neighbours]
    band = {"kind": "band", "colour": charts.REMOVED}
    bands = [{**band, "from": run[0] - 0.5, "to": run[-1] + 0.5} for run in runs] or [
        {**band, "from": 0.5, "to": 0.5}
    ]
    return {"ranking": [{**bands[0], **words}, *bands[1:]]}


def precompute(scene: Scene, setting: str, stops: list[float]) -> Precomputed | None:
    """The band at each stop, where a layer's filters compete among themselves only."""
    settings, (group, *others) = scene.step.settings, groups_of(scene)
    own = (*settings["leave_out"], *settings["per_layer"], *settings["by_hand"])
    if (
        others
        or {scene.layer, group.name} & set(own)
        or settings["allocation"] != "layer"
        or (group.stream and not settings["residual"])
    ):
        return None
    of = group.channels
    return Precomputed([removed(list(range(1, 1 + min(round(stop * of), of - 1))), of) for stop in stops])


def update(scene: Scene) -> Update:
    filters = scene.report.tables["filters"]
    own = filters[filters["layer"] == scene.layer].sort_values("score", kind="stable")
    gone = own.loc[~own["kept"], "filter"].tolist()
    ranks = [rank for rank, kept in enumerate(own["kept"], 1) if not kept]
    table = figures.table(
        scene.report.tables["layers"],
        {
            "layer": figures.Column("layer"),
            "filters": figures.Column("filters"),
            "kept": figures.Column("kept"),
            "sparsity": figures.Column("removed", "share", charts.REMOVED),
            "weights": figures.Column("weights before"),
            "weights_after": figures.Column("after"),
            "macs_before": figures.Column("MACs before"),
            "macs_after": figures.Column("after"),
        },
        scene.layer,
    )
    return Update(removed(ranks, len(own)), {"maps": maps(scene, gone), "layers": table}, lesson(scene))


def lesson(scene: Scene) -> Lesson:
    names = ["filters", "removed", "weights", "weights_after", "macs_before", "macs_after"]
    filters, gone, before, after, macs, left = scene.report.tables["layers"][names].sum().tolist()
    lost, share = (figures.text(part, "share") for part in (1 - after / before, gone / filters))
    return Lesson(
        "A filter that goes takes a slice of every layer that reads it: multiply-adds really fall, from "
        f"{figures.text(macs, 'MAC')} to {figures.text(left, 'MAC')}. Shortcuts tie layers together.",
        f"{share} of the filters is not {share} of the weights: it is {lost}. And setting a filter to zero is not "
        "removing it: only what is gone is not computed.",
    )


def maps(scene: Scene, gone: list[int]) -> str:
    """This layer without its removed filters, and the layers that read it without the slices."""
    lost: dict[str, list[int]] = {f"{scene.layer}.weight": gone}  # weight -> places along its axis
    first = 0  # where the layer's own channels lie: an embedding has them in its columns
    for group in groups_of(scene):
        made = next(part for part in group.makes if part.param == f"{scene.layer}.weight")
        first, channels_gone = made.axis, [c for c, row in enumerate(made.at) if row in set(gone)]
        for part in group.reads:
            places = [place for channel in channels_gone for place in part.places(channel)]
            lost[part.param] = [*lost.get(part.param, ()), *places]
    drawn = []
    for number, (name, places) in enumerate([*lost.items()][:3]):
        axis = 1 if number else first
        whole, label = scene.before.params[name].decode(), name.removesuffix(".weight")
        words = f"{label} reads them: its input slices" if number else f"{label}: its filters"
        left = whole.index_fill(axis, torch.tensor(places, dtype=torch.long), 0.0)
        alt = f"{label}, kept and removed"
        pair = of_tensor(weight_maps.kept_map(left, PIXELS), alt, 150) + of_tensor(
            weight_maps.kept_map(whole, PIXELS), f"{label} before pruning", 150, "was"
        )
        drawn.append((pair, f"{words}. {sampled(whole, PIXELS)}"))
    return side_by_side(drawn)


frame.heading(
    "Filters",
    "A zero is still multiplied, a filter that is gone is not. **Move the slider: the model gets smaller and faster.**",
    "When a filter goes, rows leave its layer, and with them the slices of the next layer that read them. Whole filters "
    "are coarser than single weights, so accuracy falls sooner.",
)
frame.workbench("prune_filters", hero, update, precompute, deeper, makes_channels)
