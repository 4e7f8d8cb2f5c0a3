"""Distill: can a small model learn what a large one knows?"""

from contextlib import suppress

import streamlit as st
from torch import Tensor

from engine.figures import measure
from engine.net import sources, zoo
from engine.types import Bundle
from pages.parts import cached, curve, footer, frame, jobs, knobs, session, training, view, visitor
from pages.parts.pictures import picture_of, pulls, softened

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
original = cached.original(subject).arch
learner_arch = sources.student(original)
if visitor.why_idle() or learner_arch is None:
    names = ", ".join(e.title for e in zoo.ENTRIES.values() if e.student)
    own = "Distillation needs a student: name one by --student package.module:factory."
    theirs = f"Distillation needs a teacher with a student in the zoo: {names}."
    st.info(visitor.why_idle() or (own if original.source == "user" else theirs))
    st.stop()
held = cached.images(subject)
reached = jobs.reached(subject, knobs.before("distill"))
if reached is None:
    st.stop()
teacher = reached[0]
temperature = float(knobs.current("distill").settings["temperature"])


def trained_student() -> Bundle | None:
    """The student that this recipe trained, or the plain one of the zoo."""
    for step in (
        knobs.current("distill"),
        view.last_trained("distill"),
    ):  # as tiles do: of before, till trained
        with suppress(cached.Untrained):
            return cached.after(subject, knobs.before("distill").then(step).key)[0]
    return zoo.load(learner_arch.name) if learner_arch.name in zoo.trained() else None


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
    known = [teacher] if learner is None else [teacher, learner]
    scores = [measure.logits(zoo.build(bundle), one)[0] for bundle in known]
    classes, truth = cached.classes(subject), int(one.labels[0])
    st.html(softened.drawn(classes, scores, truth, temperature))
    if one.is_drawable:
        picture.html(
            f'<img class="picture" alt="the sample" src="{picture_of(one.picture(0))}" style="max-width:2.4rem">'
        )
    st.html(softened.numbers(scores, temperature))
    return scores, f"True class: {classes[truth]}{'' if one.is_drawable else '; this input is no image'}."


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
    st.caption(
        f"{truth} The student is {zoo.title(learner_arch)}. Temperature is a lens: what the student is changes only when it "
        "is trained."
    )
    drawn = pulls.draw(subject, teacher, learner, temperature) if learner is not None else None
    st.subheader("Training the student", anchor=False)
    training.outcome("distill", offer)
knobs.foresee(
    "distill",
    teacher,
    "temperature",
    lambda stop: softened.ahead(scores, stop) | {"marks": {} if drawn is None else drawn(stop)},
)
footer.draw(tabs, subject)
jobs.wake()
