"""The model as this machine runs it: in its variants, as an ONNX file, and on integers alone."""

from __future__ import annotations

import streamlit as st

from engine.data.sets import Samples
from engine.figures import integer_only, onnx_run
from engine.figures import latency as variants
from engine.types import Figure
from pages.parts.cached.predictions import FEW, sample, sample_size
from pages.parts.cached.states import after
from pages.parts.cached.subjects import is_large, original

MOST_ON_INTEGERS = 500  # samples that a model answers twice in whole numbers, which no kernel makes fast


@st.cache_data(max_entries=128, show_spinner=False)
def latency(subject: str, key: str, batch: int) -> tuple[variants.Row, ...]:
    """The original and every form of this model, timed side by side on this machine."""
    return variants.latency(original(subject), after(subject, key)[0], batch)


@st.cache_data(max_entries=128, show_spinner=False)
def latency_takes(subject: str, key: str, batch: int) -> Figure:
    """About how many seconds `latency` needs."""
    return variants.seconds(original(subject), after(subject, key)[0], batch)


def looked_at(subject: str) -> Samples:
    """The samples of the test set that a model answers while a page waits."""
    return sample(subject, FEW if is_large(subject) else sample_size(subject))


@st.cache_data(max_entries=16, show_spinner=False)
def as_onnx(subject: str, key: str) -> onnx_run.Tried:
    """The model as an ONNX file, run and timed on this machine. Raises SlimscopeError where it can't be one."""
    return onnx_run.tried(original(subject), after(subject, key)[0], looked_at(subject))


@st.cache_data(max_entries=16, show_spinner=False)
def on_integers(subject: str, key: str) -> integer_only.Compared:
    """The model on integers alone beside the simulated one. Raises SlimscopeError where it can't run so."""
    n = FEW if is_large(subject) else min(sample_size(subject), MOST_ON_INTEGERS)
    return integer_only.compared(after(subject, key)[0], sample(subject, n))
