"""How long the file is, where its bytes are, and what is counted."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import streamlit as st

from engine.figures import closeness, count, theory
from engine.file import packfile
from engine.jobs import streaming
from engine.net import kinds
from engine.types import Figure, Recipe, SlimscopeError, weight_layers
from pages.parts.cached.states import _waiting, after
from pages.parts.cached.subjects import is_large, original, parts


def written(subject: str, key: str) -> tuple[dict[str, Figure], dict[str, int], Path] | None:
    """Figures by name, bytes of each tensor, and the file of a large model, once a job wrote it."""
    model, spec = parts(subject)
    return streaming.written(model, Recipe.from_key(key), spec)


def _told(subject: str, key: str) -> dict[str, Figure]:
    """The figures of a large model's file. Raises Untrained, or Pending before a job wrote it."""
    found = written(subject, key)
    if found is None:
        raise _waiting(subject, key)
    return found[0]


def size(subject: str, key: str) -> Figure:
    """Bytes of the real packed file: written, read back and compared. Raises Pending."""
    return _told(subject, key)["file size"] if is_large(subject) else _size(subject, key)


@st.cache_data(max_entries=512, show_spinner=False)
def _size(subject: str, key: str) -> Figure:
    return packfile.size(after(subject, key)[0])


@st.cache_data(max_entries=64, show_spinner=False)
def ledger(subject: str, key: str) -> list[Figure]:
    """Every way to count the size, in reading order."""
    return theory.ledger(after(subject, key)[0])


def counted(subject: str, key: str) -> dict[str, Figure]:
    """Sparsity, parameters and non-zeros by name. Raises Pending."""
    is_told = is_large(subject) and Recipe.from_key(key).live.steps
    return _told(subject, key) if is_told else _counted(subject, key)


@st.cache_data(max_entries=512, show_spinner=False)
def _counted(subject: str, key: str) -> dict[str, Figure]:
    bundle = after(subject, key)[0]
    return {f.name: f for f in (count.sparsity(bundle), count.parameters(bundle), count.nonzeros(bundle))}


@st.cache_data(max_entries=512, show_spinner=False)
def macs(subject: str, key: str) -> Figure:
    """Multiply-adds for one input. Raises SlimscopeError where they can't be counted."""
    return count.macs(after(subject, key)[0])


@st.cache_data(max_entries=16, show_spinner=False)
def dense_bytes(subject: str) -> Figure:
    """The original as a dense 32-bit safetensors file: what every ratio is against."""
    return theory.dense_file(original(subject))


@st.cache_data(max_entries=64, show_spinner=False)
def where(subject: str, key: str, is_written: bool = True) -> pd.DataFrame:
    """Bytes of the packed file: columns layer, part, bytes; the rows add up to the file.

    Of a large model whose file is not written: bytes of the original's numbers.
    """
    if is_large(subject):
        found = written(subject, key) if is_written else None
        sizes = (
            found[1] if found else {n: 4 * math.prod(p.shape) for n, p in original(subject).params.items()}
        )
        rows = pd.DataFrame({"name": list(sizes), "bytes": list(sizes.values()), "part": ""})
    else:
        rows = packfile.sections(after(subject, key)[0]).rename(columns={"tensor": "name"})
    layer, _, leaf = zip(*(name.rpartition(".") for name in rows["name"]), strict=True)
    rows["layer"] = [whole or own for whole, own in zip(layer, leaf, strict=True)]
    rows["part"] = [
        f"{own} {part}" if whole else part for whole, own, part in zip(layer, leaf, rows["part"], strict=True)
    ]
    return rows[["layer", "part", "bytes"]]


@st.cache_data(max_entries=64, show_spinner=False)
def layers(subject: str, key: str, is_written: bool = True) -> pd.DataFrame:
    """One row per weight: layer, shape, how many, zeros, dense and packed bytes, type, output, MACs.

    Of a large model: the original's, and packed bytes where its file is written. MACs are left out where
    `uncounted` says why.
    """
    if is_large(subject):
        bundle, found = original(subject), written(subject, key) if is_written else None
        packed = pd.Series(found[1] if found else {}, dtype="float64")
    else:
        bundle = after(subject, key)[0]
        packed = packfile.sections(bundle).groupby("tensor")["bytes"].sum()
    rows = []
    for label, name in weight_layers(bundle).items():
        weight = bundle.params[name].decode()
        rows.append(
            {
                "layer": label,
                "shape": " x ".join(map(str, weight.shape)),
                "weights": weight.numel(),
                "sparsity": 1 - int(weight.count_nonzero()) / weight.numel(),
                "dense bytes": 4 * weight.numel(),
                "packed bytes": packed.get(name),
            }
        )
    table = pd.DataFrame(rows)
    try:
        counted = kinds.weight_table(bundle)
    except SlimscopeError:  # without a known architecture, or with a layer of an unknown kind
        return table
    # What the model's own code only adds is in no layer.
    used = counted.reindex(list(weight_layers(bundle).values())).reset_index(drop=True)
    return pd.concat(
        [table, used.fillna({"type": "", "output": "", "macs": 0}).astype({"macs": int})], axis=1
    )


@st.cache_data(max_entries=64, show_spinner=False)
def uncounted(subject: str, key: str) -> str:
    """Which multiply-adds the rows of `layers` can't or don't say, in a sentence; nothing where all are there."""
    bundle = original(subject) if is_large(subject) else after(subject, key)[0]
    if not bundle.arch.runs:
        return ""
    try:
        used = kinds.weight_table(bundle)["macs"]
    except SlimscopeError as error:
        return f"Multiply-adds are not counted: {error}."
    between = int(used.get(kinds.BETWEEN, 0))
    return (
        f"{between:,} more MACs multiply two activations (attention): no weight is in them."
        if between
        else ""
    )


@st.cache_data(max_entries=64, show_spinner=False)
def relative_errors(subject: str, key: str) -> dict[str, float]:
    """How far each layer's weights are from the original's (`engine.figures.closeness`)."""
    return closeness.relative_errors(after(subject, key)[0])
