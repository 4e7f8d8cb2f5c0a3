"""What models answer to samples, and how often that is right."""

from __future__ import annotations

import streamlit as st
from torch import Tensor

from engine.data.sets import Samples
from engine.figures import measure
from engine.jobs import as_json, testset
from engine.net import incremental, zoo
from engine.types import Figure, Recipe
from pages.parts.cached.states import after
from pages.parts.cached.subjects import card, images, is_large, original, parts

FEW = 20  # samples that a large model may answer while a page waits


@st.cache_data(max_entries=16, show_spinner=False)
def sample_size(subject: str) -> int:
    """How many test samples are measured at once under the slider."""
    most, held = measure.sample_size(original(subject)), images(subject)
    return most if held is None else min(most, len(held.test))


@st.cache_resource(max_entries=8, show_spinner=False)
def _sample(subject: str, n: int) -> tuple[Samples, list[incremental.Trace]]:
    """The sample, and the latest run over it."""
    held = images(subject)
    assert held is not None
    return held.test.stratified(n), []


def sample(subject: str, n: int) -> Samples:
    """The fixed stratified sample of the test set."""
    return _sample(subject, n)[0]


@st.cache_resource(max_entries=48, show_spinner=False)
def answers(subject: str, key: str, n: int) -> Tensor:
    """What is kept of the answers to the sample (n, ...): layers before the first that differs are not run again."""
    looked_at, latest = _sample(subject, n)
    found, trace = incremental.answers(after(subject, key)[0], looked_at, *latest[:1])
    latest[:] = [trace]
    return found


def answers_so_far(subject: str, key: str) -> tuple[Samples, Tensor, Tensor] | None:
    """Samples of the test set, and the classes that the original and this model give to them.

    All of the test set once a job has measured it; before that the sample, or None for a large model.
    """
    held = images(subject)
    assert held is not None
    n = len(held.test) if is_large(subject) else sample_size(subject)
    if (n < len(held.test) or is_large(subject)) and (everything := answers_of_all(subject, key)):
        return held.test, *everything
    return (
        None
        if is_large(subject)
        else (sample(subject, n), answers(subject, "[]", n), answers(subject, key, n))
    )


def answers_of_all(subject: str, key: str) -> tuple[Tensor, Tensor] | None:
    """Predicted classes of the original and of this model on the whole test set, once a job has measured them."""
    model, held = original(subject), images(subject)
    found = [testset.answers(model, Recipe.from_key(text), held) for text in ("[]", key)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def labels(subject: str, n: int) -> Tensor:
    """True classes (n,) of the same sample."""
    return sample(subject, n).labels


def accuracy(subject: str, key: str, n: int) -> tuple[Figure, Figure]:
    """(accuracy, paired difference to the original) on n test samples."""
    now, truth = answers(subject, key, n), labels(subject, n)
    return measure.accuracy_of(now, truth), measure.paired_difference(answers(subject, "[]", n), now, truth)


def full_accuracy(subject: str, key: str) -> tuple[Figure, Figure] | None:
    """(accuracy, paired difference) on the whole test set, once a job has measured it."""
    found = testset.full_accuracy(original(subject), Recipe.from_key(key), images(subject))
    if found is None:
        return None
    now, change = (as_json.figure_of(figure) for figure in found["figures"])
    return now, change


def origin_accuracy(subject: str) -> Figure | None:
    """The original's accuracy on the whole test set, where it is known: its model card's, or a job's."""
    known = card(parts(subject)[0])
    found = known.get("test accuracy") or known.get("test perplexity")
    if isinstance(found, dict):
        return as_json.figure_of(found)
    measured = full_accuracy(subject, "[]")
    return None if measured is None else measured[0]


@st.cache_data(max_entries=8, show_spinner=False)
def least_certain(subject: str, among: int = 500) -> list[int]:
    """Row numbers of the first `among` test samples, where the original hesitates most first.

    Of a large model FEW.
    """
    held = images(subject)
    assert held is not None
    among = FEW if is_large(subject) else among
    if held.test.is_read_on:  # all are as uncertain
        return list(range(min(among, len(held.test))))
    shares = measure.logits(zoo.build(original(subject)), held.test.take(slice(0, among))).softmax(1)
    return [int(i) for i in shares.max(1).values.argsort()]
