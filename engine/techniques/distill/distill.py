"""Distill: a small student learns from the answers of the net so far, the teacher, or from where it looks.

The teacher may be compressed: it only answers. The student, the zoo's or a narrower copy, starts from its
seeded random weights; with the control on, a plain student learns from the labels alone, all else equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from torch import nn

from engine.data.sets import Data
from engine.figures import reports, students
from engine.figures.students import RUNS, Lesson, Taught, chosen_student
from engine.net import ensembles, zoo
from engine.net.stages import matching
from engine.net.train import Rewording, attending_as, learning_from, regressing_on
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.settings import of_students
from engine.recipe.technique import Cost, technique
from engine.types import Arch, Bundle, Progress, Report, SlimscopeError

ASKING = 6  # trainings of the student that the answers of several teachers take, about


def _asks(chosen: Mapping[str, Any]) -> str:
    """Who answers with these settings: several teachers have no logits or maps of their own."""
    return str(chosen["teachers"]) if chosen["loss"] == "hinton" else "one"


@technique(
    family="train",
    title="Distill",
    reference="Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, arXiv 1503.02531; "
    "of texts: Tang 2019, arXiv 1903.12136",
    page="distill",
    stage=100,
    runs="trains",
    cost=lambda chosen: Cost(
        chosen["epochs"] * (1 + chosen["control"] + ASKING * (_asks(chosen) == "zoo")),
        images=chosen["subset"],
        student=chosen["student"] == "zoo",
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
    temperature: Annotated[float, settings.temperature((("loss", ("hinton",)),))] = 4.0,
    alpha: settings.TeacherShare = 0.7,
    epochs: of_students.Epochs = 10,
    learning_rate: Annotated[float, settings.adam_rate()] = 0.01,
    subset: of_students.Samples = 10_000,
    seed: Annotated[int, of_students.seed("the student's first weights")] = 0,
    control: of_students.PlainStudent = True,
    loss: Annotated[
        str,
        Choice(
            label="Loss",
            help="What of the teacher the student is trained to match, beside the labels.",
            options={
                "hinton": "the softened answers, by KL divergence (Hinton 2015)",
                "logits": "the logits themselves, by their mean squared error (Ba, Caruana 2014)",
                "attention": "where its feature maps are active, stage by stage (Zagoruyko 2017)",
            },
            added=True,
        ),
    ] = "hinton",
    teachers: Annotated[
        str,
        Choice(
            label="Teachers",
            help="Who answers.",
            options={
                "one": "the model as it is",
                "zoo": "it and the zoo's other models of its task, but no students: their mean shares",
            },
            when=(("loss", ("hinton",)),),
            advanced=True,
            added=True,
        ),
    ] = "one",
    student: Annotated[
        str,
        Choice(
            label="Student",
            help="The small model that learns.",
            options={
                "zoo": "the zoo's small model for this teacher, or the one that you named",
                "narrow": "a copy of the teacher with fewer channels",
            },
            advanced=True,
            added=True,
        ),
    ] = "zoo",
    width: Annotated[
        float,
        Slider(
            low=0.1,
            high=1.0,
            step=0.05,
            unit="share of the teacher's channels",
            percent=True,
            label="Width",
            help="How many channels of each layer the copy has; 1 is a student as wide as its teacher.",
            when=(("student", ("narrow",)),),
            advanced=True,
            added=True,
        ),
    ] = 0.5,
    augmentation: of_students.Augmentation = "usual",
    mask_words: of_students.MaskedWords = 0.1,
    replace_words: of_students.ReplacedWords = 0.1,
    word_runs: of_students.WordRuns = 0.25,
    precision: settings.AddedPrecision = "float32",
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Replaces the model by a smaller one that was trained to give the same softened answers.

    The loss is alpha times the teacher's term + (1 - alpha) cross-entropy; Adam, batch 128, one-cycle
    schedule, no weight decay. The term is T^2 KL(teacher || student), where several teachers answer with the
    mean of their softened shares; or the mean squared error of the logits (arXiv 1312.6184); or 1000 times
    that of attention, the norms of feature maps at each place, where both models have maps of one size (arXiv
    1612.03928). Texts may be reworded for student and teacher alike (Tang 2019; a KL loss: Adhikari 2019,
    arXiv 1904.08398). Raises SlimscopeError where there is no such student for this model, no other teacher,
    no such maps, or no words, and Cancelled through `progress`.
    """
    arch = chosen_student(bundle, student, width)
    teacher, *others = (
        zoo.fork(each).eval().requires_grad_(False)
        for each in ensembles.teachers(bundle, data, _asks({"loss": loss, "teachers": teachers}))
    )
    seen = replace(data, train=data.train.stratified(subset, seed))
    plan = students.plan(epochs, learning_rate, seed, precision)
    if augmentation == "words":
        plan = replace(plan, rewording=_rewording(data, mask_words, replace_words, word_runs))
    lesson = _lesson(loss, [teacher, *others], bundle.arch, arch, temperature, alpha)
    trained, curve = students.train(arch, seen, plan, lesson, control, progress, progress)
    figures = students.compared(teacher, trained, data.validation, others)
    copy = f", {width:.0%} as wide," if student == "narrow" else ""
    notes = [f"{zoo.title(arch)}{copy} learned from {len(seen.train):,} samples of {data.name}"]
    if others:
        titles = ", ".join(zoo.title(Arch(name)) for name in ensembles.others(bundle))
        notes.append(f"beside the model itself these were teachers: {titles}")
    notes += reports.multiplied(precision)
    return bundle.become(trained["distilled"].params, arch), Report(figures, {"curve": curve}, tuple(notes))


def _rewording(data: Data, mask: float, replaced: float, runs: float) -> Rewording:
    if not data.train.is_text or data.train.is_read_on:
        raise SlimscopeError(
            f"augmentation is 'words', and {data.name} has no texts with a class: allowed is 'usual'"
        )
    return Rewording(mask, replaced, runs)


def _lesson(
    loss: str, teachers: Sequence[nn.Module], known: Arch, arch: Arch, temperature: float, alpha: float
) -> Lesson:
    """How a student learns from the teachers, the model itself first; all nets are forks."""
    if loss == "attention" and alpha == 1:
        raise SlimscopeError(
            "alpha is 1 with loss = 'attention', which says nothing of classes: allowed is less than 1"
        )
    pairs = matching(known, arch).values() if loss == "attention" else ()
    ends = [(theirs.name, own.name) for theirs, own in pairs]

    def lesson(net: nn.Module) -> Taught:
        match loss:
            case "attention":
                return attending_as(teachers[0], net, ends, alpha), ()
            case "logits":
                return regressing_on(teachers[0], alpha), ()
        return learning_from(teachers, temperature, alpha), ()

    return lesson
