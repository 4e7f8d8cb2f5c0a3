"""Cai 2020, ZeroQ: ranges of activations from images distilled out of batch-norm, instead of from data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import distilled, zoo
from engine.papers.harness import TEST_ERRORS, Claim, Ours, Outcome, Paper
from engine.techniques.quantize.zeroq import calibrated_by, pixels_of
from engine.types import Progress

NET = "resnet-20"
BITS = (8, 4)  # of weights and of what enters layers
DISTILLED, REAL, NOISE = "distilled images", "training images", "noise"
ERRORS = {
    (bits, source): f"test error at {bits} bits, ranges from {source}"
    for bits in BITS
    for source in (DISTILLED, REAL, NOISE)
}
OVER_REAL = "test error of distilled - training images at 8 bits"
OVER_NOISE = "test error of distilled images - noise at 4 bits"
MOST_OVER_NOISE = "most that this may be at 4 bits"
CLOSE = 0.5  # points
RECIPE: dict[str, Any] = {
    "net": NET,
    "bits": list(BITS),
    "images": 64,
    "steps": 200,
    "what": "weights asymmetric with a scale for each output, activations from the smallest to the largest "
    "value seen; nothing is trained",
    "chosen by": "the technique's defaults",
}


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Calibrate by each source of images, and run the files, read back, on the test set."""
    bundle, data = zoo.load(recipe["net"]), sets.load(zoo.entry(recipe["net"]).data)
    count, pixels = recipe["images"], pixels_of(data)
    found = distilled.distil(bundle, count, recipe["steps"], seed, pixels, progress.part(0.0, 0.2))
    shown = {
        DISTILLED: found.images,
        REAL: data.train.stratified(count, seed).inputs(),
        NOISE: distilled.noise(bundle, count, seed + 1, pixels),
    }
    answers = {}
    for number, (bits, source) in enumerate(ERRORS):
        progress(0.2 + 0.8 * number / len(ERRORS))
        rounded, _, _ = calibrated_by(shown[source], bundle, bits, bits)
        answers[bits, source] = measure.predictions(packfile.unpack(packfile.pack(rounded)), data.test)
    progress(1.0)
    labels = data.test.labels
    error = {key: 100 * (1 - measure.accuracy_of(given, labels).value) for key, given in answers.items()}
    gain = measure.paired_difference(answers[4, NOISE], answers[4, DISTILLED], labels)
    assert gain.spread is not None
    figures = {ERRORS[key]: value for key, value in error.items()}
    figures[OVER_REAL] = error[8, DISTILLED] - error[8, REAL]
    figures[OVER_NOISE] = error[4, DISTILLED] - error[4, NOISE]
    figures[MOST_OVER_NOISE] = -100 * gain.spread[0]
    return Outcome(figures)


def judge(ours: Ours) -> str:
    """`reproduced`: at 8 bits close to real images, at 4 better than noise beyond the paired interval.

    >>> judge({OVER_REAL: [0.1], MOST_OVER_NOISE: [-0.2]})
    'reproduced'
    """
    middle = {name: statistics.median(ours[name]) for name in (OVER_REAL, MOST_OVER_NOISE)}
    is_good = middle[OVER_REAL] <= CLOSE and middle[MOST_OVER_NOISE] < 0
    return "reproduced" if is_good else "not reached"


ZEROQ = Paper(
    name="zeroq-resnet-20",
    paper="Cai et al. 2020, ZeroQ: A Novel Zero Shot Quantization Framework, arXiv 2001.00281",
    claim="Images distilled from batch-norm's statistics calibrate as well as data, and better than noise.",
    claims=(
        *(Claim(name, None, "%", f"{TEST_ERRORS}; of the file, read back") for name in ERRORS.values()),
        Claim(OVER_REAL, None, "points", "on the same test images"),
        Claim(OVER_NOISE, None, "points", "on the same test images"),
        Claim(MOST_OVER_NOISE, None, "points", "upper end of the paired 95 % interval (Agresti, Min 2005)"),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule=f"In the median seed, distilled images make at most {CLOSE} points more errors than training images "
    "at 8 bits, and at 4 bits the paired 95 % interval of the change from noise lies below 0.",
    judge=judge,
    run=partial(run, RECIPE),
)
