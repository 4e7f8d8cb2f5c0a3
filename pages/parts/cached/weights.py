"""Indices of weights, and single layers of a large model."""

from __future__ import annotations

import functools

import streamlit as st

from engine.figures import count
from engine.jobs import layerwise
from engine.tensor.histogram import HistogramIndex, index_of
from engine.tensor.index import Index
from engine.tensor.ranking import Pool
from engine.types import Bundle, Recipe, Report, SlimscopeError, weight_layers
from pages.parts.cached.states import after, needs_whole
from pages.parts.cached.subjects import original


@st.cache_resource(max_entries=16, show_spinner=False)
def index(subject: str, key: str, layers: tuple[str, ...]) -> Index:
    """The index of these layers' weights together, after a recipe: sorted, or coarse for many millions."""
    bundle = after(subject, key)[0]
    names = weight_layers(bundle)
    return index_of([bundle.params[names[label]].decode() for label in layers])


@st.cache_resource(max_entries=2, show_spinner="Indexing the weights, once ...")
def outlines(subject: str) -> dict[str, HistogramIndex]:
    """A coarse index of every layer of the original."""
    return {label: HistogramIndex([weight]) for label, weight in count.weights(original(subject))}


def pool(subject: str, layers: tuple[str, ...]) -> Index:
    """The index of one layer or several of a large model, as they were at first."""
    return pools(subject)(layers)


def pools(subject: str) -> Pool:
    """As `pool`, of any layers: the memory is asked once for all that are asked by themselves."""
    alone = outlines(subject)
    return lambda layers: alone[layers[0]] if len(layers) == 1 else index(subject, "[]", layers)


@st.cache_resource(max_entries=12, show_spinner=False)
def seen(subject: str, key: str, layer: str, whole: bool) -> tuple[Bundle, tuple[Report, ...]]:
    """As `after`, of one layer of a large model: of all its rows, or of some that stand for them.

    Raises SlimscopeError where a step can't be told from the layer alone.
    """
    live = Recipe.from_key(key).live
    if not live.steps:
        return layerwise.of_layer(original(subject), layer, None if whole else layerwise.SHOWN), ()
    before = Recipe(live.steps[:-1]).key
    base, reports = seen(subject, before, layer, whole)
    if needs_whole(live):
        raise SlimscopeError("this step acts on the model as a whole")
    labels = list(weight_layers(original(subject)))
    try:
        ranked = layerwise.alone(base) if before != "[]" else functools.partial(pool, subject)
        bundle, report = layerwise.apply(base, live.steps[-1], labels, ranked)
    except SlimscopeError as error:
        raise type(error)(f"step {len(live)} ({live.steps[-1].technique}): {error}") from error
    return bundle, (*reports, report)
