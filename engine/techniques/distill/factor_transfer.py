"""Factor transfer: a student learns what an auto-encoder of the teacher's feature maps keeps of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from torch import nn

from engine.data.sets import Data
from engine.figures import feature_maps, reports, students, training
from engine.figures.students import RUNS, Taught, student_of
from engine.net import zoo
from engine.net.stages import matching, reader
from engine.net.train import Part
from engine.net.train.factors import (
    Paraphraser,
    reconstruction_error,
    reconstruction_loss,
    transferring,
    translator,
)
from engine.recipe import settings
from engine.recipe.knobs import Slider
from engine.recipe.settings import of_students
from engine.recipe.technique import Cost, technique
from engine.types import Basis, Bundle, Figure, Progress, Report

CHECKED, BATCH = 1000, 250  # validation images that reconstructions are measured on, and at once
RATE = 5e-3  # of Adam on the paraphraser at most
ERROR = "reconstruction error"


@technique(
    family="train",
    title="Factor transfer",
    reference="Kim, Park, Kwak 2018, Paraphrasing Complex Network: Network Compression via Factor Transfer, "
    "arXiv 1802.04977",
    stage=101,
    runs="trains",
    cost=lambda chosen: Cost(
        chosen["epochs"] * (1 + chosen["control"]) + chosen["paraphraser_epochs"],
        images=chosen["subset"],
        student=True,
    ),
    locality="model",
    tables={
        "curve": ("epoch", "loss", "train accuracy", "validation accuracy", "run"),
        "paraphraser": ("epoch", "loss", ERROR),
        "maps": feature_maps.COLUMNS,
    },
    series=RUNS,
    aha="Feature maps of a large model and a small one are two languages. The teacher's are paraphrased into "
    "fewer channels first, and a translator makes the same of the student's: only the direction of these "
    "factors is compared, not their size.",
    trap="The authors' weight of 500 is for residual nets on photos. In a short training of the student of "
    "LeNet-5 it drowns the labels: look at the plain student, same seed and all else equal. And it is not "
    "free: an auto-encoder learns before the student and a translator beside it, and both are thrown away.",
    presets={"gentle": {"weight": 100.0}, "balanced": {}, "extreme": {"weight": 2000.0, "factors": 0.75}},
    possible=lambda bundle: matching(bundle.arch, student_of(bundle)),
    known_by="weight",
)
def factor_transfer(
    bundle: Bundle,
    data: Data,
    *,
    factors: Annotated[
        float,
        Slider(
            low=0.1,
            high=1.0,
            step=0.05,
            unit="share of the teacher's channels",
            percent=True,
            label="Factors",
            help="Into how many channels the paraphraser sums up the teacher's last feature maps.",
        ),
    ] = 0.5,
    weight: Annotated[
        float,
        Slider(
            low=1.0,
            high=5000.0,
            scale="log",
            unit="loss per unit of difference",
            label="Weight",
            help="How much the mean difference between normalised factors counts beside cross-entropy.",
        ),
    ] = 500.0,
    paraphraser_epochs: Annotated[
        int,
        settings.epochs(
            "How often the auto-encoder sees the chosen training samples, before the student does.",
            label="Paraphraser",
        ),
    ] = 5,
    epochs: of_students.Epochs = 10,
    learning_rate: Annotated[float, settings.adam_rate("student and translator")] = 0.01,
    subset: of_students.Samples = 10_000,
    seed: Annotated[int, of_students.seed("all first weights")] = 0,
    control: of_students.PlainStudent = True,
    precision: settings.AddedPrecision = "float32",
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Replaces the model by a smaller one that was trained to have the same factors of its feature maps.

    The paraphraser, an auto-encoder of the last feature maps that both models have in one size, learns first
    to give the teacher's again. Then the student learns with a translator, whose loss is cross-entropy +
    weight * mean |F_T / ||F_T|| - F_S / ||F_S|||: F_T is the paraphraser's code, F_S what the translator
    makes of the student's maps. Adam, batch 128, one-cycle schedule, no weight decay. Raises SlimscopeError
    where the zoo has no student for this model, or no maps of one size, and Cancelled through `progress`.
    """
    arch = student_of(bundle)
    theirs, own = list(matching(bundle.arch, arch).values())[-1]
    seen = replace(data, train=data.train.stratified(subset, seed))
    plan = students.plan(epochs, learning_rate, seed, precision)
    share = paraphraser_epochs / (paraphraser_epochs + epochs * (1 + control))
    told = progress.part(0.0, share, lambda row: None), progress.part(share, 1.0)
    read = reader(zoo.fork(bundle).eval().requires_grad_(False), theirs.name)
    paraphraser = Paraphraser(theirs.channels, max(1, round(factors * theirs.channels)), seed)

    samples = data.validation.stratified(CHECKED)

    def error(net: nn.Module) -> float:
        starts = range(0, len(samples), BATCH)
        return reconstruction_error(read, net, (samples.inputs(slice(i, i + BATCH)) for i in starts))

    paraphrased = training.tune(
        paraphraser,
        seen,
        replace(plan, epochs=paraphraser_epochs, learning_rate=RATE),
        progress,
        "paraphraser",
        told=told[0],
        loss=reconstruction_loss(read),
        masks={},
        watch=lambda net: {ERROR: error(net)},
        digits=0,
    )
    paraphraser.requires_grad_(False)

    def lesson(net: nn.Module) -> Taught:
        beside = translator(own.channels, paraphraser.factors, seed)
        loss = transferring(read, paraphraser.encoder, net, own.name, beside, weight)
        return loss, (Part("translator", beside),)

    trained, curve = students.train(arch, seen, plan, lesson, control, progress, told[1])
    how = (
        f"sum of |map - reconstruction| over that of |map|, from {paraphraser.factors} factors of "
        f"{theirs.channels} channels at {theirs.name}, {len(samples):,} validation samples"
    )
    figures = (
        *students.compared(zoo.build(bundle), trained, data.validation),
        Figure(ERROR, error(paraphraser), "share", Basis.MEASURED, how),
    )
    tables = {
        "curve": curve,
        "paraphraser": training.curve(paraphrased)[["epoch", "loss", ERROR]],
        "maps": feature_maps.reconstructed(
            read, paraphraser, data.validation.inputs(slice(0, feature_maps.IMAGES))
        ),
    }
    learned = f"learned from {len(seen.train):,} samples of {data.name}"
    notes = (f"{zoo.title(arch)} {learned}, by its maps at {own.name}", *reports.multiplied(precision))
    return bundle.become(trained["distilled"].params, arch), Report(figures, tables, notes)
