"""Fine-tune: train what compression left over, from the values it has, zeros kept.

It knows nothing of how the zeros came about: every exact zero of a weight matrix stays one.
"""

from __future__ import annotations

from typing import Annotated

import pandas as pd

from engine.data.sets import Data
from engine.figures import measure, reports, training
from engine.net import zoo
from engine.net.processor import has_bfloat16
from engine.net.train import Plan
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import Cost, technique
from engine.types import Bundle, Progress, Report


@technique(
    family="train",
    title="Fine-tune",
    reference="Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626, section 3.3",
    page="prune",
    stage=600,
    runs="trains",
    cost=lambda chosen: Cost(chosen["epochs"]),
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
            "How often the model sees all training images; a few are enough after gentle pruning.", high=60
        ),
    ] = 3,
    learning_rate: Annotated[
        float,
        settings.learning_rate(
            "How far a step moves the weights at the start; it falls to zero along a cosine."
        ),
    ] = 0.01,
    precision: Annotated[
        str,
        Choice(
            label="Precision",
            help="In how many bits the model multiplies while it trains; its weights are kept in 32.",
            options={
                "float32": "32 bits",
                "bfloat16": "16 bits: convolutions train faster where the processor knows the format",
            },
            rare=True,
        ),
    ] = "float32",
    weight_decay: settings.WeightDecay = 1e-4,
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Trains the weights that are left, starting from their values; removed weights stay exactly zero.

    Stochastic gradient descent with Nesterov momentum 0.9, batch 128, and a cosine schedule. Images are
    moved by a few pixels (digits: one), and photos mirrored, as in the training of the zoo.
    Rounded inputs stay rounded (straight-through gradients). The result is 32-bit
    floats. Raises Cancelled through `progress`.
    """
    net = zoo.fork(bundle)
    start = {"epoch": 0.0, "validation accuracy": measure.accuracy(bundle, data.validation).value}
    plan = Plan(
        epochs, learning_rate, schedule="cosine", weight_decay=weight_decay, precision=precision, seed=seed
    )
    rows = training.tune(net, data, plan, progress)
    after = training.trained(bundle, net)
    figures = training.change(bundle, after, data.validation)
    curve = pd.DataFrame([start, *rows], columns=list(rows[0])).astype({"epoch": int})
    notes = [f"trained on {len(data.train):,} images of {data.name}"]
    if precision == "bfloat16" and not has_bfloat16():
        notes.append("this processor has no bfloat16: all was multiplied in 32 bits")
    return after, Report(figures, {"curve": curve}, (*notes, *reports.decoded(bundle, "fine-tune")))
