"""Heads of attention: their importance by layer, and what each of them looks at in a text."""

from __future__ import annotations

import math
from html import escape

import pandas as pd
import streamlit as st
from torch import Tensor

from engine.net import heads
from engine.types import Bundle, SlimscopeError
from pages.parts import cached, figures, weight_maps
from pages.parts.live import Scene
from pages.parts.pictures import of_tensor, quoted, side_by_side

DARKEST = 60  # per cent of the colour, so that numbers can be read on it in light and dark


def grid(rows: pd.DataFrame) -> str:
    """A row for each attention, a column for each head: the darker the more important, struck out where it goes."""
    names = list(dict.fromkeys(rows["layer"]))
    most = int(rows["head"].max()) + 1
    reach = float(rows["importance"].max())
    is_known = bool(rows["importance"].notna().all())
    cells = ["<span></span>", *(f"<span>head {head}</span>" for head in range(most))]
    for name in names:
        own = rows[rows["layer"] == name]
        cells.append(f'<span class="class">{escape(name)}</span>')
        for row in own.itertuples():
            share = DARKEST * math.sqrt(row.importance / reach) if is_known and reach else 0.0
            said = figures.plain(row.importance, ".2g") if is_known else f"no. {row.rank}"
            words = f"rank {row.rank} of {len(rows)}, {'kept' if row.kept else 'removed'}"
            inner = said if row.kept else f"<s>{said}</s>"
            kind = "shade" if row.kept else "shade gone"
            cells.append(f'<span class="{kind}" title="{words}" style="--share:{share:.1f}%">{inner}</span>')
        cells += ["<span></span>"] * (most - len(own))
    columns = f"grid-template-columns:auto repeat({most}, minmax(0, 1fr))"
    how = (
        "Importance in nat: the mean of |d loss / d mask| over training samples; a cell is as dark as its root. "
        if is_known
        else "Ranked by chance. "
    )
    return (
        f'<div class="bars alike heads" style="{columns}">{"".join(cells)}</div>'
        f"{figures.caption(how + 'Struck out: removed. At least one head of each layer stays.')}"
    )


def reads(bundle: Bundle, weight: str) -> bool:
    """Whether a weight is the last of an attention, which reads what its heads give."""
    try:
        return weight in {block.reads.param for block in heads.blocks(bundle).values()}
    except SlimscopeError:
        return False


def looks(scene: Scene) -> None:
    """For each head of the chosen attention, where each word looks: before the step, and after it where it stays."""
    held, known = cached.images(scene.subject), heads.blocks(scene.before)
    label = next(name for name, block in known.items() if block.reads.param.startswith(f"{scene.layer}."))
    if held is None or held.pieces is None or not known[label].is_cut:
        return st.caption("What heads look at is shown for the zoo's transformer, whose texts are known.")
    number = st.number_input(
        "Text of the test set", 0, len(held.test) - 1, 1, help="The number of a text of the test set."
    )
    one = held.test.take(slice(int(number), int(number) + 1))
    words = held.pieces.read(one.images[0].tolist())
    before, after = (
        heads.shares(bundle, label, one.inputs())[:, : len(words), : len(words)]
        for bundle in (scene.before, scene.after)
    )
    rows = scene.report.tables["heads"]
    kept = dict(zip(*(rows[rows["layer"] == label][name] for name in ("head", "kept")), strict=True))
    st.html(quoted(one.texts[0]))
    staying = iter(after)  # the heads that are left, in their order
    drawn = []
    for head, own in enumerate(before):
        drawn.append(_looked(own, words, f"head {head}{'' if kept[head] else ' (removed)'}"))
        if kept[head]:
            drawn.append(_looked(next(staying), words, f"head {head} after"))
    st.html(side_by_side(drawn))
    st.html(
        figures.caption(
            f"One row for each of the {len(words)} word pieces ({', '.join(words)}), one column for each that it may look at; the "
            "darker, the larger its share, on a fixed scale from 0 to 1. A head of the first layer looks as before: what it reads has not changed."
        )
    )


def _looked(shares: Tensor, words: list[str], name: str) -> tuple[str, str]:
    """The picture of a head's shares (words, words), and on which word most of them lie."""
    place = int(shares.sum(0).argmax())
    said = f"{name}: {100 * float(shares.mean(0)[place]):.0f} % on '{words[place]}'"
    return of_tensor(weight_maps.signed_map(shares, 1.0), said, 150), said
