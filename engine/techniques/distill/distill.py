"""Distill: a small student from the zoo learns from the answers of the net so far, the teacher.

The teacher may be compressed: it only answers. The student starts from its seeded random
weights; with the control on, a plain student learns from the labels alone, all else equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated

import pandas as pd
import torch

from engine.data.sets import Data, Samples
from engine.figures import measure, training
from engine.net import incremental, sources, zoo
from engine.net.train import Plan, learning_from
from engine.recipe import settings
from engine.recipe.knobs import Slider, Toggle
from engine.recipe.technique import Cost, technique
from engine.types import Arch, Bundle, Figure, Progress, Report, SlimscopeError

RUNS = ("distilled", "plain")  # what a row of the live series has a number for


@technique(
    family="train",
    title="Distill",
    reference="Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, arXiv 1503.02531",
    page="distill",
    stage=100,
    runs="trains",
    cost=lambda chosen: Cost(
        chosen["epochs"] * (1 + chosen["control"]), images=chosen["subset"], student=True
    ),
    locality="model",
    tables={"curve": ("epoch", "loss", "train accuracy", "validation accuracy", "run")},
    series=RUNS,
    presets={
        "gentle": {"temperature": 2.0, "alpha": 0.5},
        "balanced": {"temperature": 4.0, "alpha": 0.7},
        "extreme": {"temperature": 10.0, "alpha": 0.95},
    },
)
def distill(
    bundle: Bundle,
    data: Data,
    *,
    temperature: settings.Temperature = 4.0,
    alpha: settings.TeacherShare = 0.7,
    epochs: Annotated[int, settings.epochs("How often the student sees the chosen training images.")] = 10,
    learning_rate: Annotated[
        float,
        settings.learning_rate("How far Adam moves the weights at most; it warms up, then falls to zero."),
    ] = 0.01,
    subset: Annotated[
        int,
        Slider(
            low=500,
            high=55_000,
            step=500,
            whole=True,
            unit="images",
            label="Images",
            help="How many training images the student sees; all of them where there are fewer.",
        ),
    ] = 10_000,
    seed: Annotated[
        int, settings.seed("Fixes the student's first weights, the chosen images and their order.")
    ] = 0,
    control: Annotated[
        bool,
        Toggle(
            label="Plain student",
            rare=True,
            help="Also trains the same student on the labels alone, to show what the teacher adds.",
        ),
    ] = True,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Replaces the model by a smaller one that was trained to give the same softened answers.

    The loss is alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy; Adam, batch 128,
    one-cycle schedule, no weight decay. Raises SlimscopeError where the zoo has no student for
    this model, and Cancelled through `progress`.
    """
    arch = student_of(bundle)
    teacher = zoo.build(bundle)
    seen = replace(data, train=data.train.stratified(subset, seed))
    weight_of_run = dict(zip(RUNS, (alpha, 0.0) if control else (alpha,), strict=False))
    of = len(weight_of_run)
    students: dict[str, Bundle] = {}
    curves = []
    for number, (run, weight) in enumerate(weight_of_run.items()):
        net = sources.seeded(arch, seed)
        plan = Plan(epochs, learning_rate, optimizer="adam", weight_decay=0.0, seed=seed)
        rows = training.tune(
            net,
            seen,
            plan,
            progress,
            run,
            told=progress.part(number / of, (number + 1) / of, partial(_numbered, number)),
            loss=learning_from(teacher, temperature, weight),
            masks={},
            digits=0,
        )
        students[run] = sources.bundle_of(arch, net.state_dict())
        curves.append(training.curve(rows).assign(run=run))
    after = bundle.become(students["distilled"].params, arch)
    figures = compared(teacher, students, data.validation)
    note = f"{zoo.title(arch)} learned from {len(seen.train):,} images of {data.name}"
    return after, Report(figures, {"curve": pd.concat(curves, ignore_index=True)}, (note,))


def student_of(bundle: Bundle) -> Arch:
    """The student for a teacher: the zoo's, or the user's own. Raises SlimscopeError where there is none."""
    student = sources.student(bundle.arch)
    if student is None and bundle.arch.source == "user":
        raise SlimscopeError(f"no student is named for {bundle.arch.title}: --student package.module:factory")
    if student is None:
        teachers = ", ".join(name for name, entry in zoo.ENTRIES.items() if entry.student)
        raise SlimscopeError(f"the zoo has no student for {bundle.arch.title}: teachers are {teachers}")
    return student


def _numbered(run: int, row: Mapping[str, float]) -> dict[str, float]:
    return {**row, "run": float(run)}


def compared(
    teacher: torch.nn.Module, students: Mapping[str, Bundle], samples: Samples
) -> tuple[Figure, ...]:
    """Teacher, student and (with the control) plain student on the same validation samples."""
    nets = {"teacher": teacher, **{run: zoo.build(student) for run, student in students.items()}}
    answers = {name: incremental.checked(measure.logits(net, samples)) for name, net in nets.items()}
    expert, labels = answers["teacher"], samples.labels
    own = answers["distilled"]
    figures = [*measure.before_and_after(expert.argmax(1), own.argmax(1), labels), measure.kl(expert, own)]
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
