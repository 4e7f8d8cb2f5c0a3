"""Fine-tune: train what compression left over, from the values it has, zeros kept.

It knows nothing of how the zeros came about: every exact zero of a weight matrix stays one. The model
before all compression may teach it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import pandas as pd

from engine.data.sets import Data
from engine.figures import measure, reports, training
from engine.net import ensembles, zoo
from engine.net.train import Plan
from engine.recipe import settings
from engine.recipe.technique import Cost, technique
from engine.types import Bundle, Progress, Report

TAUGHT = (("teacher", ("original",)),)  # where the settings of a teacher matter


def cost(chosen: Mapping[str, Any]) -> Cost:
    """The teacher answers, too: a third of what a pass forward and back takes, where it is as large."""
    epochs = chosen["epochs"]
    return Cost(epochs if chosen["teacher"] == "none" else math.ceil(epochs * 4 / 3))


@technique(
    family="train",
    title="Fine-tune",
    reference="Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626, section 3.3",
    page="prune",
    stage=600,
    runs="trains",
    cost=cost,
    locality="model",
    tables={"curve": ("epoch", "loss", "train accuracy", "validation accuracy")},
    presets={
        "gentle": {"epochs": 1, "learning_rate": 0.003},
        "balanced": {"epochs": 3, "learning_rate": 0.01},
        "extreme": {"epochs": 10, "learning_rate": 0.03},
    },
)
def finetune(
    bundle: Bundle,
    data: Data,
    *,
    epochs: Annotated[
        int,
        settings.epochs(
            "How often the model sees all training samples; a few are enough after gentle pruning.", high=60
        ),
    ] = 3,
    learning_rate: Annotated[
        float,
        settings.learning_rate(
            "How far a step moves the weights at the start; it falls to zero along a cosine."
        ),
    ] = 0.01,
    precision: Annotated[str, settings.precision()] = "float32",
    teacher: Annotated[str, settings.learns_from()] = "none",
    temperature: Annotated[float, settings.temperature(TAUGHT, added=True)] = 4.0,
    alpha: Annotated[float, settings.teacher_share(TAUGHT, added=True)] = 0.7,
    weight_decay: settings.WeightDecay = 1e-4,
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Trains the weights that are left, starting from their values; removed weights stay exactly zero.

    Stochastic gradient descent with Nesterov momentum 0.9, batch 128, and a cosine schedule. Images are
    moved by a few pixels (digits: one), and photos mirrored, as in the training of the zoo.
    Rounded inputs stay rounded (straight-through gradients). The result is 32-bit floats.
    With a teacher the loss is alpha T^2 KL(teacher || model) + (1 - alpha) cross-entropy (Hinton, Vinyals,
    Dean 2015, arXiv 1503.02531); the teacher sees the same moved images, in eval mode, and stays as it is.
    Raises Cancelled through `progress`.
    """
    net, loss = zoo.fork(bundle), ensembles.lesson(bundle, data, teacher, temperature, alpha)
    start = {"epoch": 0.0, "validation accuracy": measure.right(bundle, data.validation)}
    plan = Plan(
        epochs, learning_rate, schedule="cosine", weight_decay=weight_decay, precision=precision, seed=seed
    )
    rows = training.tune(net, data, plan, progress, loss=loss)
    after = training.trained(bundle, net)
    figures = training.change(bundle, after, data.validation)
    curve = pd.DataFrame([start, *rows], columns=list(rows[0])).astype({"epoch": int})
    notes = [f"trained on {len(data.train):,} samples of {data.name}"]
    if teacher == "original":
        notes.append("the loss is shared with the answers of the model before all compression")
    notes += [*reports.multiplied(precision), *reports.decoded(bundle, "fine-tune")]
    return after, Report(figures, {"curve": curve}, tuple(notes))
