"""What changed: the test samples that get another answer, and who pays, class by class; or token by token."""

from __future__ import annotations

import streamlit as st
from torch import Tensor

from engine.data.samples import Samples
from engine.figures import measure, perplexity
from engine.types import SlimscopeError
from pages.parts import cached, figures, typed, whole
from pages.parts.figures import Tile, titled
from pages.parts.pictures import samples, tokens

SHOWN, TEXTS = 24, 18  # flipped samples in the gallery: images, and texts, which take a row each
PASSAGES = 4


def draw(subject: str, key: str) -> None:
    """Which samples flipped, and who pays: the change per class."""
    held = cached.images(subject)
    assert held is not None
    try:
        found = cached.answers_so_far(subject, key)
    except SlimscopeError as error:
        return st.info(f"Nothing to compare: {error}.")
    if found is None:
        return whole.pending(subject, key, "accuracy")
    sample, before, now = found
    if sample.is_read_on:
        return _of_tokens(subject, *found)
    if held.pieces is not None:
        typed.draw(subject, key, held)
        st.subheader("Texts of the test set", anchor=False)
    n, truth = len(sample), sample.labels
    table = measure.flips(before, now, truth)
    counts = table["kind"].value_counts()
    lost, won, other = (int(counts.get(kind, 0)) for kind in ("lost", "won", "changed"))
    st.markdown(
        f"**{len(table):,} of {n:,} test samples get another answer**: {lost} were right and are wrong now, "
        f"{won} were wrong and are right now, {other} changed from one wrong answer to another."
    )
    left, right = st.columns([1.2, 1], gap="medium")
    most = TEXTS if sample.is_text else SHOWN
    names = cached.classes(subject)
    with left:
        if len(table):
            rows = table.sort_values("kind", key=lambda k: k.map({"lost": 0, "won": 1, "changed": 2})).head(
                most
            )
            st.html(
                samples(
                    sample,
                    (
                        (
                            r.sample,
                            f"{names[r.before]} > {names[r.after]}",
                            f"{r.kind}; true: {names[r.label]}",
                        )
                        for r in rows.itertuples()
                    ),
                )
            )
            if len(table) > most:
                st.caption(f"The first {most} of {len(table)}, lost ones first: answer before > answer now.")
        else:
            st.caption("No sample changed its answer.")
    with right:
        per = measure.per_class(before, now, truth, names)
        ends = zip(per["after low"], per["after high"], strict=True)
        per["interval"] = [f"{100 * low:.1f} to {100 * high:.1f} %" for low, high in ends]
        st.html(
            figures.table(
                per.sort_values("change"),
                {
                    "class": figures.Column("class"),
                    "n": figures.Column("n"),
                    "before": figures.Column("before", "share"),
                    "after": figures.Column("now", "share"),
                    "interval": figures.Column("95 % interval"),
                    "change": figures.Column("change in points", "points"),
                },
            )
        )


def _of_tokens(subject: str, sample: Samples, before: Tensor, now: Tensor) -> None:
    """The windows whose tokens lost most, in the text, and three figures of all of them."""
    found = (
        perplexity.change(before, now),
        perplexity.bits_per_character(now, sample),
        perplexity.agreement(before, now),
    )
    st.html(figures.tiles(Tile(titled(each.name), each, figures.said(each)) for each in found))
    st.caption(
        f"On {len(sample):,} windows of the test part, each of {sample.images.shape[1]} tokens. Orange: how much "
        "less likely the model thinks the token that came than the original did; blue: more likely. Point at a token "
        "for both probabilities. The windows that lost most are first."
    )
    names = cached.classes(subject)
    for row in tokens.fallen(before, now)[:PASSAGES]:
        was, is_now = (tokens.perplexity(answers, row) for answers in (before, now))
        st.html(tokens.window(sample, row, names, before, now))
        st.caption(f"Perplexity of this window: {was:,.1f}, now {is_now:,.1f}.")
