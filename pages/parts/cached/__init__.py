"""Engine calls with a memory: the only place with a cache. Keys are strings, never tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts.cached.courses import bytes_along, course, fronts
from pages.parts.cached.predictions import (
    FEW,
    accuracy,
    answers,
    answers_of_all,
    answers_so_far,
    full_accuracy,
    labels,
    least_certain,
    origin_accuracy,
    sample,
    sample_size,
)
from pages.parts.cached.runtimes import as_onnx, latency, latency_takes, looked_at, on_integers
from pages.parts.cached.sizes import (
    counted,
    dense_bytes,
    layers,
    ledger,
    macs,
    relative_errors,
    size,
    uncounted,
    where,
    written,
)
from pages.parts.cached.states import UNKNOWN, Pending, Untrained, after, base, fits, needs_whole, untrained
from pages.parts.cached.subjects import (
    card,
    classes,
    given,
    images,
    is_bare_and_large,
    is_large,
    original,
    parts,
    proposal,
    reload_user,
    subject,
)
from pages.parts.cached.texts import continued, losses, shares, tokens
from pages.parts.cached.weights import index, outlines, pool, pools, seen

__all__ = [
    "FEW",
    "UNKNOWN",
    "Pending",
    "Untrained",
    "accuracy",
    "after",
    "answer",
    "answers",
    "answers_of_all",
    "answers_so_far",
    "as_onnx",
    "base",
    "bytes_along",
    "card",
    "classes",
    "continued",
    "counted",
    "course",
    "dense_bytes",
    "fits",
    "fronts",
    "full_accuracy",
    "given",
    "images",
    "index",
    "is_bare_and_large",
    "is_large",
    "labels",
    "latency",
    "latency_takes",
    "layers",
    "least_certain",
    "ledger",
    "looked_at",
    "losses",
    "macs",
    "needs_whole",
    "on_integers",
    "origin_accuracy",
    "original",
    "outlines",
    "parts",
    "pool",
    "pools",
    "proposal",
    "relative_errors",
    "reload_user",
    "sample",
    "sample_size",
    "seen",
    "shares",
    "size",
    "subject",
    "tokens",
    "uncounted",
    "untrained",
    "where",
    "written",
]


@st.cache_data(max_entries=64, show_spinner=False)
def answer(question: str, _work: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """What `_work` gives for a question: a fragment and a browser that ask the same at once share it."""
    return _work()
