"""Distill: can a small model learn what a large one knows?"""

from contextlib import suppress
from typing import Any, NoReturn

import streamlit as st
import torch
from torch import Tensor

from engine.figures import measure
from engine.figures.students import chosen_student
from engine.net import ensembles, zoo
from engine.types import Bundle, SlimscopeError
from pages.parts import cached, curve, footer, frame, jobs, knobs, session, training, view, visitor
from pages.parts.pictures import alike, picture_of, pulls, quoted, softened

PAGE = {
    "title": "Distill",
    "icon": "school",
    "about": "Let a small model learn from a large one.",
    "order": 80,
    "technique": "distill",
    "group": "Distill",
}

frame.heading(
    "Distill",
    "Can a small model learn what a large one knows? **Raise the temperature and watch the wrong classes appear.**",
    "A teacher's answer is more than a class: how the rest of its confidence is spread says what the classes have in "
    "common. A small student is trained to give the same shares.",
)
subject = session.subject()
frame.header(subject, PAGE["technique"])
if visitor.why_idle():
    st.info(visitor.why_idle())
    st.stop()
held = cached.images(subject)
reached = jobs.reached(subject, knobs.before("distill"))
if reached is None:
    st.stop()
teacher, settings = reached[0], knobs.current("distill").settings
temperature = float(settings["temperature"])
softens = settings["loss"] == "hinton"


def unable(words: str) -> NoReturn:
    training.controls("distill")
    st.info(words)
    st.stop()


try:
    learner_arch = chosen_student(teacher, settings["student"], settings["width"])
except SlimscopeError as error:
    other = "" if settings["student"] == "narrow" else " Or choose a narrower copy under More."
    unable(f"Distillation needs a student: {error}.{other}")
try:
    teachers = ensembles.teachers(teacher, held, settings["teachers"] if softens else "one")
except SlimscopeError as error:
    unable(f"{error}.")


def trained_student() -> Bundle | None:
    """The student that this recipe trained, or the plain one of the zoo."""
    for step in (
        knobs.current("distill"),
        view.last_trained("distill"),
    ):  # as tiles do: of before, till trained
        with suppress(cached.Untrained):
            return cached.after(subject, knobs.before("distill").then(step).key)[0]
    stored = settings["student"] == "zoo" and learner_arch.name in zoo.trained()
    return zoo.load(learner_arch.name) if stored else None


learner = trained_student()


def hero() -> tuple[list[Tensor], str]:
    """What teacher and student say of one sample at this temperature; their logits, and what is true."""
    head, picture, chosen = st.columns([2.4, 0.4, 1.2], vertical_alignment="center")
    head.subheader("Logits, over T, as shares", anchor=False)
    order = cached.least_certain(subject)
    number = chosen.number_input(
        "Sample of the test set",
        0,
        len(order) - 1,
        0,
        key="sample",
        help="A sample of the test set: the first 500, ordered by the original model's doubt; 0 is where it hesitates most.",
        label_visibility="collapsed",
    )
    place = order[int(number)]
    one = held.test.take(slice(place, place + 1))
    asked = torch.stack([measure.logits(zoo.build(bundle), one)[0] for bundle in teachers])
    scores = [asked if len(teachers) > 1 else asked[0]]
    if learner is not None:
        scores.append(measure.logits(zoo.build(learner), one)[0])
    classes, truth = cached.classes(subject), int(one.labels[0])
    st.html(softened.drawn(classes, scores, truth, temperature))
    if one.is_text:
        head.html(quoted(one.texts[0]))
    elif one.is_drawable:
        picture.html(
            f'<img class="picture" alt="the sample" src="{picture_of(one.picture(0))}" style="max-width:2.4rem">'
        )
    st.html(softened.numbers(scores, temperature))
    is_shown = one.is_drawable or one.is_text
    return scores, f"True class: {classes[truth]}{'' if is_shown else '; this input is no image'}."


with st.container(key="workbench"):
    training.controls("distill")
    pictures, beside = st.columns(2, gap="medium")
    with pictures:
        scores, truth = hero()
    with beside:
        curve.draw(subject, "distill", teacher)
        offer = st.container()
    st.html(f'<div data-live="lesson">{softened.lesson(scores, temperature).html()}</div>')
tabs = footer.tabs()
with tabs[0]:
    copy = f" with {settings['width']:.0%} of its channels" if settings["student"] == "narrow" else ""
    names = ", ".join(zoo.title(each.arch) for each in teachers)
    ensemble = f" The teachers are {names}: their shares are averaged." if len(teachers) > 1 else ""
    st.caption(
        f"{truth}{ensemble} The student is {zoo.title(learner_arch)}{copy}. Temperature is a lens: what the student is changes only when it "
        "is trained."
    )
    classes, gradients = st.columns([1.3, 1], gap="medium")
    with classes:
        similar = alike.draw(subject, teachers, temperature)
    with gradients:
        drawn = (
            pulls.draw(subject, teachers, learner, temperature) if learner is not None and softens else None
        )
    training.outcome("distill", offer, "Training the student")


def ahead(stop: float) -> dict[str, Any]:
    """What the browser shows at a stop of the temperature."""
    bars, matrix = softened.ahead(scores, stop), similar(stop)
    return {
        "shares": bars["shares"] | matrix["shares"],
        "texts": bars["texts"] | matrix["texts"],
        "marks": {} if drawn is None else drawn(stop),
    }


if softens:
    knobs.precompute("distill", teacher, "temperature", ahead)
footer.draw(tabs, subject)
jobs.wake()
