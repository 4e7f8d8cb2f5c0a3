"""Krishnamoorthi 2018: 8 bits for weights and activations, nothing trained, at almost the same accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.net import zoo
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.papers.paired import Paired, drawn, least
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Progress

NETS = ("resnet-20", "vgg-small")
FLOAT = {net: f"test accuracy of {net}, 32-bit floats" for net in NETS}
CHANGE = {net: f"change of {net} with 8 bits" for net in NETS}
LEAST = {net: f"least that this change may be, {net}" for net in NETS}
MOST_LOST = -0.1  # points
RECIPE: dict[str, Any] = {
    "nets": list(NETS),
    "quantize": {
        **{"bits": 8, "scheme": "asymmetric", "granularity": "channel", "range": "minmax"},
        **{"activations": "static", "activation_bits": 8, "activation_range": "minmax", "calibration": 256},
    },
    "chosen by": "validation, ResNet-20, draw 0: it loses 0.02 points; with ranges that are moving averages, "
    "as in the paper, and with what shortcuts add up rounded as well, 0.12",
    "what": "weights and what enters layers; what shortcuts add up, biases and batch-norm stay floats",
}


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Draw calibration samples, round each model, and compare its file, read back, on the test set."""
    step, figures, tables = technique.step("quantize", **recipe["quantize"]), dict[str, float](), {}
    for number, net in enumerate(recipe["nets"]):
        progress(number / len(recipe["nets"]))
        bundle, data = zoo.load(net), sets.load(zoo.entry(net).data)
        paired = Paired(bundle, data)
        rounded, _ = apply(bundle, step, drawn(data, recipe["quantize"]["calibration"], seed))
        change = paired.add(net, rounded)
        figures |= {FLOAT[net]: paired.right(), CHANGE[net]: 100 * change.value, LEAST[net]: least(change)}
        tables[net] = paired.table()
    progress(1.0)
    return Outcome(figures, tables)


def judge(ours: Ours) -> str:
    """`reproduced`: in the median draw each model loses at most 0.1 points.

    >>> judge({CHANGE["resnet-20"]: [-0.1], CHANGE["vgg-small"]: [-0.11]})
    'not reached'
    """
    kept = all(statistics.median(ours[CHANGE[net]]) >= MOST_LOST for net in NETS)
    return "reproduced" if kept else "not reached"


INT8 = Paper(
    name="int8-cifar10",
    paper="Krishnamoorthi 2018, Quantizing deep convolutional networks: a whitepaper, arXiv 1806.08342",
    claim="With 8 bits for weights, a scale for each output, and for activations, networks for ImageNet are "
    "within 2 points of their 32-bit accuracy, without training. Here ResNet-20 and VGG small on CIFAR-10 "
    "are to be within 0.1 point.",
    claims=tuple(
        claim
        for net in NETS
        for claim in (
            Claim(FLOAT[net], None, "%", "of the 10,000 test images right; nothing is chosen by them"),
            Claim(CHANGE[net], -2.0, "points", "of the file, read back, on the same images; published: most"),
            Claim(LEAST[net], None, "points", "lower end of the paired 95 % interval (Agresti, Min 2005)"),
        )
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="In the median seed both models lose at most 0.1 points of test accuracy. A seed draws the 256 "
    "calibration samples from the training part.",
    judge=judge,
    run=partial(run, RECIPE),
)
