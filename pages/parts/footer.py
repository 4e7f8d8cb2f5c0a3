"""What every page has below its pictures: what changed, is it faster, how big is it, take it away."""

from __future__ import annotations

import streamlit as st
from safetensors.torch import save as save_tensors

from engine import measure, packfile, script
from engine.data import Samples
from engine.types import SlimscopeError
from pages.parts import cached, figures, glossary, session, whole
from pages.parts.pictures import gallery, picture_of

SECTIONS = ("What changed", "Is it faster here?", "Size ledger", "Take it away", "Words")
SHOWN = 24  # flipped samples in the gallery


def footer(subject: str) -> None:
    """Tabs under the pictures; only the open one is worked out."""
    key = session.recipe().live.key
    if cached.is_large(subject):
        return whole.section(subject, key)
    try:
        cached.after(subject, key)
    except SlimscopeError:
        return
    tabs = st.tabs(list(SECTIONS), on_change="rerun", key="footer")
    for tab, draw in zip(tabs, (changed, faster, ledger, take_away, glossary.draw), strict=True):
        if tab.open:
            with tab:
                if draw in (changed, faster) and session.why_idle():
                    st.info(session.why_idle())
                else:
                    draw(subject, key)


def changed(subject: str, key: str) -> None:
    """Which samples flipped, and who pays: the change per class."""
    held = cached.images(subject)
    assert held is not None
    n = cached.sample_size(subject)
    sample: Samples = held.test.stratified(n)
    before, now = cached.answers(subject, "[]", n), cached.answers(subject, key, n)
    if n < len(held.test) and (everything := cached.answers_of_all(subject, key)):
        sample, (before, now) = held.test, everything
    n, truth = len(sample), sample.labels
    table = measure.flips(before, now, truth)
    counts = table["kind"].value_counts()
    lost, won, other = (int(counts.get(kind, 0)) for kind in ("lost", "won", "changed"))
    st.markdown(
        f"**{len(table):,} of {n:,} test samples get another answer**: {lost} were right and are wrong now, "
        f"{won} were wrong and are right now, {other} changed from one wrong answer to another."
    )
    left, right = st.columns([1.2, 1], gap="medium")
    names = cached.classes(subject)
    with left:
        if len(table):
            rows = table.sort_values("kind", key=lambda k: k.map({"lost": 0, "won": 1, "changed": 2})).head(
                SHOWN
            )
            st.html(
                gallery(
                    (
                        picture_of(sample.images[r.sample]),
                        f"{names[r.before]} > {names[r.after]}",
                        f"{r.kind}; true: {names[r.label]}",
                    )
                    for r in rows.itertuples()
                )
            )
            if len(table) > SHOWN:
                st.caption(f"The first {SHOWN} of {len(table)}, lost ones first: answer before > answer now.")
        else:
            st.caption("No sample changed its answer.")
    with right:
        per = measure.per_class(before, now, truth, names)
        st.html(
            figures.table(
                per.sort_values("change"),
                {
                    "class": figures.Column("class"),
                    "n": figures.Column("n"),
                    "before": figures.Column("before", "share"),
                    "after": figures.Column("now", "share"),
                    "change": figures.Column("change in points", "points"),
                },
            )
        )


def faster(subject: str, key: str) -> None:
    """Measured latency of this very net beside the dense one, and one sentence why."""
    dense, here, ratio, why = cached.latency(subject, key)
    row = [
        figures.Tile("Original, dense", dense, f"quartiles {figures.interval(dense)}"),
        figures.Tile("This net", here, f"quartiles {figures.interval(here)}"),
        figures.Tile("Speed-up", ratio, f"quartiles {figures.interval(ratio)}"),
    ]
    st.html(figures.tiles(row))
    st.markdown(f"**{why}**")
    st.caption(f"{dense.how}. Measured on the machine that serves this page, with PyTorch on the processor.")
    st.button("Measure again", on_click=cached.latency.clear, key="measure-again", icon=":material/refresh:")


def ledger(subject: str, key: str) -> None:
    """Every way to count the size: why the literature's ratios can't be compared."""
    rows = cached.ledger(subject, key)
    st.html(figures.ledger(rows, cached.dense_bytes(subject).value))
    st.caption(
        "KB is 1,000 bytes. Ratios are against the original as a dense 32-bit file. The last row is the file "
        "that you can download below; every byte is in it: header, scales, biases, batch-norm."
    )


def take_away(subject: str, key: str) -> None:
    """The packed file, dense weights, and a script that gives the same result."""
    bundle = cached.after(subject, key)[0]
    name, held = cached.parts(subject)[0], cached.images(subject)
    scale = (held.test.mean, held.test.std) if held and "@" in session.scaling() else ()
    packed, dense, text = st.columns(3)
    packed.download_button(
        "Packed file (.slim)",
        lambda: packfile.pack(bundle),
        f"{name}.slim",
        on_click="ignore",
        icon=":material/package_2:",
        width="stretch",
        key="get-slim",
    )
    packed.caption(
        f"{figures.text(cached.size(subject, key).value, 'bytes')}, measured; `slimscope inspect` reads it."
    )
    dense.download_button(
        "Dense weights (.safetensors)",
        lambda: save_tensors(bundle.state()),
        f"{name}.safetensors",
        on_click="ignore",
        icon=":material/grid_on:",
        width="stretch",
        key="get-dense",
    )
    dense.caption(
        "The decoded 32-bit weights, for any PyTorch code: zeros are stored, so this file is not smaller."
    )
    text.download_button(
        "Script (.py)",
        lambda: script.script(name, session.recipe().live, *scale),
        f"{name}.py",
        on_click="ignore",
        icon=":material/code:",
        width="stretch",
        key="get-script",
    )
    text.caption("Python that makes the same file again.")
    st.markdown("**The same from the command line**:")
    recipe = session.brief(session.recipe().live).key
    st.code(
        f"slimscope compress {name} --recipe '{recipe}' --out {name}.slim", language="sh", wrap_lines=True
    )
