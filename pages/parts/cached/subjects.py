"""Which model, judged by which data: what pages name by one string."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import streamlit as st

from engine.data import user
from engine.data.sets import Data
from engine.figures import measure
from engine.file import intake, recognise
from engine.jobs import keys, layerwise, models
from engine.net import sources, zoo
from engine.types import Bundle


def subject(model: str, spec: str) -> str:
    """What is looked at, as one cache key: a model id and the data it is judged by (may be empty)."""
    return f"{model}|{spec}"


def parts(subject: str) -> tuple[str, str]:
    """(model id, data spec) of a subject."""
    model, _, spec = subject.partition("|")
    return model, spec


@st.cache_resource(max_entries=8, show_spinner=False)
def original(subject: str) -> Bundle:
    """The uncompressed bundle: a file is bare weights until its visitor said what it is."""
    return models.get_model(*parts(subject))


@st.cache_resource(max_entries=4, show_spinner="Reading the data ...")
def images(subject: str) -> Data | None:
    """The data that the model is judged by; None for weights without an architecture."""
    return keys.read_data(parts(subject)[1])


@st.cache_resource(show_spinner="Reading the weights ...")
def given() -> dict[str, dict[str, Any]]:
    """The models that this server was started with, for every visitor: model id -> title, notes, ..."""
    found = {}
    if user.named().model:
        found |= _about_user(sources.load_user())
    path = os.environ.get("SLIMSCOPE_WEIGHTS")
    if path:
        bundle, notes = intake.open_file(Path(path))
        about = {"title": Path(path).name, "notes": list(notes), "data": "", "arch": bundle.arch.name}
        found |= {models.put_path(bundle, Path(path)): about}
    return found


def _about_user(bundle: Bundle) -> dict[str, dict[str, Any]]:
    arch, data = bundle.arch, sources.data(bundle.arch)
    parts = [f"{len(part):,}" for part in (data.train, data.validation, data.test)]
    note = f"Your own code. Samples for training, validation and test: {', '.join(parts)}."
    about = {"title": arch.title, "notes": [note], "data": sources.task(arch), "arch": arch.name}
    return {f"user-{bundle.fingerprint}": about}


def reload_user() -> str:
    """Read the user's code again; its new model id. Raises SlimscopeError where that fails: all stays as it was."""
    bundle = sources.reload_user()
    st.cache_resource.clear()
    st.cache_data.clear()
    return f"user-{bundle.fingerprint}"


@st.cache_resource(max_entries=32, show_spinner=False)
def proposal(model: str) -> recognise.Proposal | None:
    """The model of the zoo that a visitor's file may be."""
    return recognise.propose(models.get_model(model))


@st.cache_resource(max_entries=16, show_spinner=False)
def is_large(subject: str) -> bool:
    """Whether pages look at one layer at a time (`engine.jobs.layerwise`)."""
    return layerwise.is_large(original(subject))


def is_bare_and_large(subject: str) -> bool:
    """Whether the layers are all that is known: nothing runs, and the whole is written by a job."""
    return is_large(subject) and not parts(subject)[1]


def card(model: str) -> dict[str, object]:
    """The model card of a zoo model; empty for the user's own."""
    return zoo.card(model) if model in zoo.ENTRIES else {}


@st.cache_data(max_entries=16, show_spinner=False)
def classes(subject: str) -> tuple[str, ...]:
    """Names of the classes; outputs that no sample of the data has are numbers."""
    held = images(subject)
    if held is None:
        return ()
    outputs = measure.logits(zoo.build(original(subject)), held.test.take(slice(0, 1))).shape[1]
    return (*held.classes, *map(str, range(len(held.classes), outputs)))
