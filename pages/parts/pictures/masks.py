"""Masks of tickets as pictures, round by round, and how much of them other ways of choosing weights find as well."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st
from torch import Tensor

from engine.tensor import masks, tickets
from engine.types import Bundle, Report, weight_layers
from pages.parts import charts, figures, weight_maps
from pages.parts.pictures import kept_legend, of_tensor, side_by_side

PIXELS, TALL, MOST = 200, 110, 6  # of a picture, and how many rounds are drawn
WAYS = {"pruned": "the trained net's largest", "seed": "another seed's ticket"}


def draw(bundle: Bundle, report: Report, others: Mapping[int, Report]) -> None:
    """The masks of one layer, and its overlaps; `others` are reports of the same ticket drawn with other seeds."""
    if "masks" not in report.tables:  # not in results of earlier versions
        return
    names = weight_layers(bundle)
    st.subheader("Which weights the ticket keeps", anchor=False)
    layer = st.selectbox(
        "Layer of the masks",
        list(names),
        key="mask-layer",
        help="Whose mask is drawn, round by round.",
        label_visibility="collapsed",
    )
    gone = of_layer(report, layer)
    last = int(report.tables["tickets"]["round"].max())
    rounds = sorted({round(1 + i * (last - 1) / (MOST - 1)) for i in range(MOST)})
    pictures = [_picture(tickets.mask_of(gone, number), layer, number) for number in rounds]
    by_chance = tickets.shuffled({layer: tickets.mask_of(gone, last)}, 0)[layer]
    pictures.append(_picture(by_chance, layer, None))
    st.html(side_by_side(pictures, "pieces") + kept_legend("kept", "gone"))
    table = overlaps(
        bundle.params[names[layer]].decode(), gone, last, {s: of_layer(r, layer) for s, r in others.items()}
    )
    st.caption(
        "How many of the ticket's weights another mask as sparse keeps, too; a random mask has its density in common with any. "
        "A round's mask lies within the one before."
    )
    shown = {
        "round": figures.Column("round"),
        "left": figures.Column("weights left", "share"),
        **{way: figures.Column(words, "share", charts.KEPT) for way, words in WAYS.items() if way in table},
        "chance": figures.Column("a random mask", "share", charts.ORIGINAL),
    }
    st.html(figures.table(table, shown))


def of_layer(report: Report, layer: str) -> Tensor:
    """The round that took each of the layer's weights (`tickets.gone_in`)."""
    table = report.tables["masks"]
    return tickets.unpacked(table[table["layer"] == layer].iloc[0].to_dict())


def _picture(mask: Tensor, layer: str, number: int | None) -> tuple[str, str]:
    share = f"{float(mask.float().mean()):.1%} left"
    words = f"round {number}, {share}" if number is not None else f"a random mask, {share}"
    return of_tensor(weight_maps.kept_map(mask.float(), PIXELS), f"Mask of {layer}, {words}", TALL), words


def overlaps(trained: Tensor, gone: Tensor, last: int, others: Mapping[int, Tensor]) -> pd.DataFrame:
    """For each round, the share of the ticket's weights that other masks of its density keep.

    Columns round, left, pruned (the largest of `trained`), seed (the mean over `others`, where there are any)
    and chance (what a random mask is expected to).
    """
    rows = []
    for number in range(1, last + 1):
        mask = tickets.mask_of(gone, number)
        left = int(mask.count_nonzero()) / mask.numel()
        pruned = masks.by_sparsity(trained, 1 - left)
        row = {"round": number, "left": left, "pruned": tickets.shared(mask, pruned)[0], "chance": left}
        theirs = [tickets.shared(mask, tickets.mask_of(other, number))[0] for other in others.values()]
        rows.append(row | ({"seed": sum(theirs) / len(theirs)} if theirs else {}))
    return pd.DataFrame(rows)
