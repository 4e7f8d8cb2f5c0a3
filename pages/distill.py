"""Distill: can a small model learn what a large one knows?"""

from contextlib import suppress

import streamlit as st
import torch

from engine.figures import measure
from engine.net import sources, train, zoo
from engine.types import Bundle
from pages.parts import cached, figures, footer, frame, jobs, knobs, session, training, visitor
from pages.parts.pictures import mirrored, picture_of

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
frame.header(subject)
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


def softmax_at(place: int, temperature: float) -> None:
    """The teacher's shares at this temperature, beside the hard label and the trained student's."""
    one = held.test.take(slice(place, place + 1))
    scores = measure.logits(zoo.build(teacher), one)[0]
    learner = trained_student()
    theirs = None if learner is None else measure.logits(zoo.build(learner), one)[0]
    truth = int(one.labels[0])
    picture, bars = st.columns([1, 4], vertical_alignment="center")
    picture.html(
        f'<img class="picture" alt="the sample" src="{picture_of(one.picture(0))}" style="max-width:9rem">'
        if one.is_drawable
        else figures.caption("This input is no image.")
    )
    classes = cached.classes(subject)
    picture.caption(f"True class: {classes[truth]}")
    rows = [scores] if theirs is None else [scores, theirs]
    with bars:
        shares = [train.softened(row, temperature).tolist() for row in rows]
        st.html(mirrored(classes, shares, truth, ("teacher", "student")))
    knobs.foresee(
        "distill", teacher, "temperature", lambda stop: train.softened(torch.stack(rows), stop).tolist()
    )
    entropy = measure.entropy(scores, temperature)
    row = [
        figures.Tile(
            "Entropy of the teacher", entropy, "0 is certain; the most is log2 of the number of classes"
        )
    ]
    if theirs is not None:
        row.append(
            figures.Tile("KL to the student", measure.kl(scores, theirs, temperature), "0 where both agree")
        )
    st.html(figures.tiles(row))


def trained_student() -> Bundle | None:
    """The student that this recipe trained, or the plain one of the zoo."""
    for step in (
        knobs.current("distill"),
        session.last_trained("distill"),
    ):  # as tiles do: of before, till trained
        with suppress(cached.Untrained):
            return cached.after(subject, knobs.before("distill").then(step).key)[0]
    return zoo.load(learner_arch.name) if learner_arch.name in zoo.trained() else None


left, right = st.columns([1, 2.6], gap="medium")
with left:
    order = cached.least_certain(subject)
    number = st.number_input(
        "Sample of the test set",
        0,
        len(order) - 1,
        0,
        key="sample",
        help="The first 500, ordered by the original model's doubt: 0 is where it hesitates most.",
    )
    training.controls("distill")
with right:
    st.subheader("What the teacher says of one sample", anchor=False)
    st.caption(
        f"Left the teacher, right the student {zoo.title(learner_arch)}; the tick marks the true class."
    )
    softmax_at(order[int(number)], float(knobs.current("distill").settings["temperature"]))
    st.subheader("Training the student", anchor=False)
    training.outcome("distill")
footer.draw(footer.tabs("More"), subject)
jobs.wake()
