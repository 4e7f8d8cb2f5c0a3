"""What techniques do alike that train a student: choose it, train it with and without a teacher, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from torch import nn

from engine.data.sets import Data, Samples
from engine.figures import measure, training
from engine.net import incremental, sources, zoo
from engine.net.narrower import bundle_of, fresh, narrower
from engine.net.train import Loss, Part, Plan, hard_labels, together
from engine.types import Arch, Bundle, Figure, Progress, SlimscopeError

RUNS = ("distilled", "plain")  # what a row of the live series has a number for
Taught = tuple[Loss, Sequence[Part]]
Lesson = Callable[
    [nn.Module], Taught
]  # of a student with its first weights: its loss, and what learns beside it


def student_of(bundle: Bundle) -> Arch:
    """The student for a teacher: the zoo's, or the user's own. Raises SlimscopeError where there is none."""
    student = sources.student(bundle.arch)
    if student is None and bundle.arch.source == "user":
        raise SlimscopeError(f"no student is named for {bundle.arch.title}: --student package.module:factory")
    if student is None:
        teachers = ", ".join(name for name, entry in zoo.KNOWN.items() if entry.student)
        raise SlimscopeError(f"the zoo has no student for {bundle.arch.title}: teachers are {teachers}")
    return student


def chosen_student(bundle: Bundle, student: str, width: float) -> Arch:
    """The zoo's student of a teacher, or a narrower copy of it. Raises SlimscopeError where there is none."""
    return student_of(bundle) if student == "zoo" else narrower(bundle, width)


def plan(epochs: int, learning_rate: float, seed: int, precision: str = "float32") -> Plan:
    """How students are trained: Adam, batch 128, one-cycle schedule, no weight decay."""
    return Plan(epochs, learning_rate, optimizer="adam", weight_decay=0.0, precision=precision, seed=seed)


def labels_alone(student: nn.Module) -> Taught:
    """The lesson of the plain student."""
    return hard_labels, ()


def train(
    arch: Arch, data: Data, plan: Plan, lesson: Lesson, control: bool, progress: Progress, told: Progress
) -> tuple[dict[str, Bundle], pd.DataFrame]:
    """Run -> student, all from the first weights of the plan's seed, and the curves of their trainings.

    With `control` a plain student learns from the labels alone, all else equal. Checkpoints are those of
    `progress`; `told` hears of the trainings.
    """
    lessons = dict(zip(RUNS, (lesson, labels_alone) if control else (lesson,), strict=False))
    students, curves = {}, []
    for number, (run, of_run) in enumerate(lessons.items()):
        net = fresh(arch, plan.seed)
        loss, parts = of_run(net)
        share = told.part(number / len(lessons), (number + 1) / len(lessons), partial(numbered, number))
        rows = training.tune(
            net, data, plan, progress, run, told=share, loss=loss, parts=parts, masks={}, digits=0
        )
        students[run] = bundle_of(arch, net)
        curves.append(training.curve(rows).assign(run=run))
    return students, pd.concat(curves, ignore_index=True)


def numbered(run: int, row: Mapping[str, float]) -> dict[str, float]:
    """A row of a training's live series, with the number of its run in RUNS."""
    return {**row, "run": float(run)}


def compared(
    teacher: nn.Module, students: Mapping[str, Bundle], samples: Samples, others: Sequence[nn.Module] = ()
) -> tuple[Figure, ...]:
    """Teacher, student and (with the control) plain student on the same validation samples.

    With `others` that taught beside the teacher, what all of them answer together is a figure, too.
    """
    nets = {"teacher": teacher, **{run: zoo.build(student) for run, student in students.items()}}
    answers = {name: incremental.checked(measure.logits(net, samples)) for name, net in nets.items()}
    first, own, labels = answers["teacher"], answers["distilled"], samples.labels
    asked = torch.stack([first, *(measure.logits(net, samples) for net in others)])
    expert = together(asked, 1.0) if others else first
    figures = [*measure.before_and_after(first.argmax(1), own.argmax(1), labels), measure.kl(expert, own)]
    if others:
        name = f"validation accuracy of all {len(asked)} teachers together"
        figures.append(replace(measure.accuracy_of(expert.argmax(1), labels), name=name))
    if "plain" in answers:
        plain = answers["plain"]
        figures += [
            replace(
                measure.accuracy_of(plain.argmax(1), labels), name="validation accuracy of the plain student"
            ),
            replace(
                measure.paired_difference(plain.argmax(1), own.argmax(1), labels),
                name="gain over the plain student",
            ),
        ]
    return tuple(figures)
