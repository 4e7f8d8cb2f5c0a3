"""Jung 2019, QIL: a residual net in 3 bits with learned intervals, beside the same net with learned steps."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.papers import esser, harness
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Progress

NET, BITS = esser.NET, 3
BY_STEPS = esser.ERROR[BITS]
BY_INTERVALS, CHANGE = "test error with intervals", "test error change, intervals for steps"
PUBLISHED = {"steps": 29.8, "intervals": 30.8}  # %: ResNet-18 on ImageNet, top-1, each in its own paper
BEARABLE = 0.5  # points
RECIPE: dict[str, Any] = {
    "net": NET,
    "learn_intervals": {
        "bits": BITS,
        "activation_bits": BITS,
        "end_bits": 8,
        "progressive": True,
        "input_intervals": True,
        "epochs": 12,
        "keep_zeros": False,
        "precision": "bfloat16",
    },
    "start": "the model as it came; 5 bits, then 4, then 3, for 12 epochs each",
    "beside": f"{esser.LSQ.name} of the same seed: 4 bits, then 3, for 12 epochs each",
    "chosen by": "the paper: step by step; the learning rate and all else are the technique's defaults",
}


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Train in few bits by intervals, and compare its file with that of learned steps on the test set."""
    images, net = sets.load_full(zoo.entry(recipe["net"]).data), zoo.load(recipe["net"])
    step = technique.step("learn_intervals", **recipe["learn_intervals"], seed=seed)
    after, report = apply(net, step, images, progress.part(0.0, 0.5, folder=folder))
    again = packfile.unpack(packfile.pack(after))
    error = 100 * (1 - measure.accuracy(again, images.test).value)
    steps = harness.run(esser.LSQ, seed, progress.part(0.5, 1.0))["figures"][BY_STEPS]
    figures = {BY_STEPS: steps, BY_INTERVALS: error, CHANGE: error - steps}
    return Outcome(figures, {"layers": report.tables["layers"]})


def judge(ours: Ours) -> str:
    """`reproduced`: in the median seed intervals lose at most BEARABLE points to steps; `beaten`: nothing.

    >>> judge({CHANGE: [0.6, 0.4, 0.2]})
    'reproduced'
    """
    middle = statistics.median(ours[CHANGE])
    return "beaten" if middle <= 0 else "reproduced" if middle <= BEARABLE else "not reached"


QIL = Paper(
    name=f"qil-{NET}",
    paper="Jung et al. 2019, Learning to Quantize Deep Networks by Optimizing Quantization Intervals with "
    "Task Loss, arXiv 1808.05779; Esser et al. 2020, arXiv 1902.08153",
    claim="ResNet-18 on ImageNet makes 30.8 % errors at 3 bits with intervals, 29.8 % with steps. Here it is "
    f"{zoo.entry(NET).title} on CIFAR-10.",
    claims=(
        Claim(BY_STEPS, PUBLISHED["steps"], "%", f"{harness.TEST_ERRORS}; of the file, read back"),
        Claim(BY_INTERVALS, PUBLISHED["intervals"], "%", f"{harness.TEST_ERRORS}; of the file, read back"),
        Claim(
            CHANGE,
            round(PUBLISHED["intervals"] - PUBLISHED["steps"], 2),
            "points",
            "intervals - steps, same seed",
        ),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="The median over the seeds of how many more errors intervals make than steps is at most 0.5 points; "
    "beaten where they make no more.",
    judge=judge,
    run=partial(run, RECIPE),
)
