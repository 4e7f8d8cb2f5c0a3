"""Distill quantized: quantize-aware training with the uncompressed model as a teacher."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

import pandas as pd

from engine.data.sets import Data
from engine.figures import few_bits, measure
from engine.figures.few_bits import CURVE, LAYER_COLUMNS, STEP_COLUMNS, Widths
from engine.figures.students import RUNS, numbered
from engine.net import zoo
from engine.net.train import learning_from
from engine.recipe import settings
from engine.recipe.knobs import Toggle
from engine.recipe.technique import Cost, technique
from engine.types import Bundle, Figure, Progress, Report


@technique(
    family="quantize",
    title="Distill quantized",
    reference="Esser et al. 2020, Learned Step Size Quantization, arXiv 1902.08153, section 3.7",
    stage=726,
    runs="trains",
    cost=lambda chosen: Cost(3 * chosen["epochs"] * (1 + chosen["control"])),  # rounding, and the teacher
    locality="model",
    tables={"curve": (*CURVE, "run"), "steps": STEP_COLUMNS, "layers": LAYER_COLUMNS},
    series=RUNS,
    aha="The model before compression is a teacher that costs nothing to find: it says how sure it is "
    "of each sample, which labels never do.",
    trap="A gain of a few tenths of a point is less than the interval of a small validation set: the run "
    "without a teacher, same seed and all else equal, is what to compare with.",
    presets={
        "gentle": {"bits": 4, "activation_bits": 4},
        "balanced": {"bits": 3, "activation_bits": 3},
        "extreme": {"bits": 2, "activation_bits": 2},
    },
)
def distill_quantized(
    bundle: Bundle,
    data: Data,
    *,
    bits: settings.TrainedBits = 3,
    activations: settings.RoundInputs = True,
    activation_bits: settings.InputBits = 3,
    end_bits: settings.EndBits = 8,
    alpha: settings.TeacherShare = 0.5,
    temperature: settings.Temperature = 1.0,
    epochs: Annotated[int, settings.epochs("How often the model sees all training samples.")] = 5,
    learning_rate: settings.RateWithSteps = 0.01,
    control: Annotated[
        bool,
        Toggle(
            label="Without teacher",
            advanced=True,
            help="Also trains on the labels alone, to show what the teacher adds.",
        ),
    ] = True,
    granularity: settings.TrainedGranularity = "tensor",
    weight_decay: settings.WeightDecay = 5e-5,
    keep_zeros: settings.KeepZeros = True,
    grid: settings.FirstGrid = "new",
    precision: settings.AddedPrecision = "float32",
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Trains as quantize-aware training does, and learns from the model before all compression as well.

    The loss is alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy; step sizes learn (LSQ). The
    teacher is the model that was loaded, in 32-bit floats, as it is. All else is that of quantize-aware
    training with the same settings. Raises Cancelled through `progress`.
    """
    widths = Widths(bits, activation_bits if activations else None, end_bits)
    start = few_bits.begin(bundle, data, widths, granularity, keep_zeros, grid)
    plan = few_bits.plan(epochs, learning_rate, weight_decay, precision, seed)
    teacher = zoo.build(bundle.origin)
    shares = (alpha, 0.0) if control else (alpha,)
    trained, series = [], []
    for number, share in enumerate(shares):
        told = progress.part(number / len(shares), (number + 1) / len(shares), partial(numbered, number))
        loss = learning_from(teacher, temperature, share)
        after, rows = few_bits.train(
            start, data, plan, progress, RUNS[number], learned=True, loss=loss, told=told
        )
        trained.append(after)
        series.append(rows)
    report = few_bits.report(bundle, start, trained[0], data, plan, series[0])
    untrained = float(report.tables["curve"]["validation accuracy"].iloc[0])
    curves = [
        few_bits.curve(untrained, rows).assign(run=run) for run, rows in zip(RUNS, series, strict=False)
    ]
    tables = {**report.tables, "curve": pd.concat(curves, ignore_index=True)}
    return trained[0], Report((*report.figures, *_gain(trained, data)), tables, report.notes)


def _gain(trained: list[Bundle], data: Data) -> tuple[Figure, ...]:
    """What the teacher adds, on the same validation samples; nothing without the other run."""
    if len(trained) == 1:
        return ()
    ours, plain = (measure.predictions(bundle, data.validation) for bundle in trained)
    labels = data.validation.labels
    return (
        measure.on_validation(measure.accuracy_of(plain, labels), "without a teacher"),
        replace(measure.paired_difference(plain, ours, labels), name="gain by the teacher"),
    )
