"""What the page Encode shows of a layer's stream: counts, tree, bits, coders, states, distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import torch

from engine.figures import coding
from engine.figures.coding import Stream
from engine.recipe import technique
from engine.tensor import relative
from engine.tensor.codes import counted, huffman_lengths
from engine.tensor.formats import Codebook
from engine.types import Bundle, Param, Recipe, SlimscopeError, Step, weight_layers
from pages.parts import cached, charts, figures, view
from pages.parts.encoding_pictures import bits_in_a_row, grown
from pages.parts.figures import Column, caption

LEAVES = 12  # of the tree; rarer symbols share one more
FIRST = 64  # symbols of the ribbon
MOST_BARS = 64
PRUNED = ("prune_weights", {"sparsity": 0.9})
STATES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "raw": (),
    "pruned": (PRUNED,),
    "quantized": (PRUNED, ("quantize", {"bits": 5})),
    "shared": (PRUNED, ("share_weights", {"entries": 32})),
}


def shown_key(subject: str) -> str:
    """The recipe in view; of a large model the original, since the whole is compressed in the background."""
    return "[]" if cached.is_large(subject) else view.now().live.key


def bundle_of(subject: str, key: str) -> Bundle:
    return cached.after(subject, key)[0]


def _param(subject: str, key: str, layer: str) -> Param:
    bundle = bundle_of(subject, key)
    return bundle.params[weight_layers(bundle)[layer]]


def stream(subject: str, key: str, layer: str) -> Stream:
    return coding.stream_of(_param(subject, key, layer))


def counts_chart(stream: Stream) -> charts.Chart:
    """Bars for the most frequent symbols, in the alphabet's order; hovering says each one's code length."""
    view = counted(stream.symbols)
    lengths = huffman_lengths(view.counts)
    most = np.sort(np.argsort(-view.counts, kind="stable")[:MOST_BARS])
    bars = {
        "type": "bar",
        "x": [str(symbol) for symbol in view.alphabet[most]],
        "y": view.counts[most].tolist(),
        "customdata": lengths[most].tolist(),
        "marker": {"color": charts.KEPT},
        "hovertemplate": "%{x}: %{y:,} times, %{customdata} bits<extra></extra>",
    }
    axes = {"xaxis": {"type": "category"}, "yaxis": {"type": "log"}}
    return charts.chart([bars], "symbol", "how often (logarithmic)", **axes)


def in_words(stream: Stream) -> str:
    view, n = counted(stream.symbols), len(stream.symbols)
    bits = int((view.counts * huffman_lengths(view.counts)).sum()) / n
    cut = f" The first {n:,} of them." if n == coding.MOST else ""
    return caption(
        f"Symbols: {stream.what}; {len(view.alphabet):,} different ones.{cut} Entropy, the floor for any code that looks "
        f"at one symbol at a time: {stream.entropy / n:.3f} bits a symbol. Huffman: {bits:.3f} bits."
    )


def _leaves(stream: Stream) -> tuple[list[str], list[int]]:
    """Labels and counts of the tree's leaves, the most frequent first; the last may stand for all others."""
    view = counted(stream.symbols)
    order = np.argsort(-view.counts, kind="stable")
    top, rest = order[:LEAVES], order[LEAVES:]
    labels, counts = [str(s) for s in view.alphabet[top]], view.counts[top].tolist()
    if len(rest) == 1:
        return [*labels, str(view.alphabet[rest[0]])], [*counts, int(view.counts[rest[0]])]
    return (
        ([*labels, f"{len(rest)} others"], [*counts, int(view.counts[rest].sum())])
        if len(rest)
        else (labels, counts)
    )


def tree(stream: Stream) -> None:
    """A slider for the steps, and the tree after as many."""
    labels, counts = _leaves(stream)
    if len(labels) < 2:
        st.html(caption("There is one symbol only: it needs no code."))
        return
    last = len(labels) - 1
    help = "Each step joins the two nodes that occur least: they become the children of a new one."
    step = int(st.slider("Steps", 0, last, last, key=f"tree-{last}", help=help))
    st.html(grown(labels, counts, step, dark=st.context.theme.type == "dark"))


def ribbon(stream: Stream) -> str:
    """The first symbols in their canonical codes, and in a fixed width."""
    return bits_in_a_row(stream, FIRST)


# ---------------------------------------------------------------- bytes


def _rows(subject: str, key: str, layer: str) -> pd.DataFrame:
    def work() -> dict[str, Any]:
        return {"rows": coding.compared(stream(subject, key, layer)).to_dict("records")}

    found = cached.answer(f"coders {subject} {key} {layer}", work)
    assert found is not None
    return pd.DataFrame(found["rows"], columns=coding.COLUMNS)


def coders(subject: str, key: str, layer: str) -> str:
    rows = _rows(subject, key, layer)
    rows["over"] = 100 * rows["over"]
    shown = {
        "coder": Column("coder"),
        "bytes": Column("bytes, measured"),
        "bits": Column("bits a symbol"),
        "over": Column("over the entropy", "%"),
    }
    return figures.table(rows.round({"bits": 3, "over": 1}), shown) + caption(
        "Lengths of streams that were written, each with its own tables; the first row is a formula. Below the entropy "
        "are coders that look at more than one symbol: at a weight's row, column and neighbours, or at repetitions."
    )


def where_the_rest_goes(subject: str, key: str, layer: str) -> str:
    values = _param(subject, key, layer).decode()
    zeros = float((values == 0).double().mean())
    low, whole = coding.map_floor(zeros)
    if zeros < 0.5:
        low, whole = coding.map_floor(0.98)
        return caption(
            f"Were 98 % of the weights zero, the map of zeros would need {low:.2f} bit a weight; Huffman must spend "
            f"{whole:.0f}, since no code word is shorter. A range coder has no whole bits, so nothing is left over."
        )
    return caption(
        f"{100 * zeros:.1f} % of the weights are zero: a map of zeros needs {low:.2f} bit a weight. Huffman must spend 1, "
        f"since no code word is shorter: {whole - low:.2f} bit of each weight is lost. A range coder spends {low:.2f}."
    )


def states(subject: str, key: str, layer: str) -> str:
    """The chosen layer in each state, in the bytes of each coder, and the whole file."""
    rows = []
    for name, recipe in _states(subject, key).items():
        try:
            found = _rows(subject, recipe, layer).set_index("coder")["bytes"]
            rows.append({"state": name, **found.to_dict(), "file": int(cached.size(subject, recipe).value)})
        except (
            SlimscopeError,
            KeyError,
        ):  # another step took the layer apart, or the whole is not written yet
            continue
    table = pd.DataFrame(rows)
    if not len(table):
        return caption("A large model is written in the background: its file is at the foot of the page.")
    shown = {name: Column(name) for name in table if name != "file"}
    words = "Bytes of the layer's symbols; the last column is the whole packed file, with scales, tables and biases. "
    return figures.table(table, {**shown, "file": Column("whole file")}) + caption(
        words
        + "Symbols of raw weights are sign and exponent, those of pruned ones the map of zeros: the other bits "
        "of their floats are not in this table but in the file."
    )


def _states(subject: str, key: str) -> dict[str, str]:
    if cached.is_large(subject):
        return {}
    whole = {
        name: technique.complete(Recipe(tuple(Step(*step) for step in steps))).key
        for name, steps in STATES.items()
    }
    return whole | ({} if key in whole.values() else {"in view": key})


def distances(subject: str, key: str, layer: str) -> str:
    """Relative indices with fillers, at each width, and their length in Huffman's code."""
    param = _param(subject, key, layer)
    kept = np.flatnonzero(param.decode().flatten()[: coding.MOST].numpy())
    if not len(kept) or len(kept) > 0.5 * min(np.prod(param.shape), coding.MOST):
        return caption("Fewer than half of the weights are zero: distances would cost more than they save.")
    rows = [_distance_row(_book(param), bits) for bits in range(3, 9)]
    shown = {name: Column(name) for name in rows[0]}
    return figures.table(pd.DataFrame(rows), shown) + caption(
        "For each weight that is not zero, how far it is from the last one. A distance too long for its bits is bridged "
        "by fillers, entries of value zero: few bits mean many fillers. Huffman codes the distances."
    )


def _book(param: Param) -> Codebook:
    """Zeros and others are all that distances look at."""
    there = (param.decode().flatten()[: coding.MOST] != 0).to(torch.int32)
    return Codebook(there, torch.tensor([0.0, 1.0]))


def _distance_row(book: Codebook, bits: int) -> dict[str, Any]:
    found = relative.relative(book, bits)
    n, example = len(found.distances), ", ".join(map(str, found.distances[:12]))
    return {
        "bits": bits,
        "entries": n,
        "fillers": found.fillers,
        "fixed bytes": -(-n * bits // 8),
        "Huffman bytes": -(-relative.huffman_bits(found.distances) // 8),
        "the first": example,
    }
