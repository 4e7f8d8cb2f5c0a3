"""Banner 2019, ACIQ: 4 bits for weights and activations, clipped by a formula; nothing is trained."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.data.sets import Data
from engine.net import zoo
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.papers.paired import Paired, drawn, least
from engine.recipe import technique
from engine.recipe.run import run as apply_recipe
from engine.types import Bundle, Progress, Recipe, weight_layers

NET = "resnet-20"
FLOAT = "test accuracy, 32-bit floats"
MINMAX, CLIPPED = "change with 4 bits, smallest to largest value", "change with 4 bits, ACIQ"
GAIN, LEAST, WON = "points that ACIQ wins back", "least that it may win back", "share of the loss won back"
PUBLISHED = {"min-max": 62.15, "ACIQ": 73.33}  # %: ResNet-50 on ImageNet, the authors' code
LEAST_WON = 0.5
GRID: dict[str, Any] = {"scheme": "asymmetric", "granularity": "channel", "activations": "static"}
FOUR: dict[str, Any] = {**GRID, "bits": 4, "activation_bits": 4}
RECIPE: dict[str, Any] = {
    "net": NET,
    "calibration": 256,
    "ends": {**GRID, "bits": 8, "activation_bits": 8, "range": "minmax"},
    "min-max": [["quantize", {**FOUR, "range": "minmax"}]],
    "ACIQ": [
        ["aciq", {"bits": 4, "distribution": "laplace"}],
        ["quantize", {**FOUR, "range": "aciq", "round_weights": False}],
    ],
    "chosen by": "validation, draw 0: with clips for a Laplace distribution of weights 2.8 of 5.0 points are "
    "won back, with those for the likelier distribution of each output 2.4",
    "what": "weights and what enters layers, the first and the last layer in 8 bits as in the authors' code; "
    "activations have one clip a layer, where the paper has bits for each channel",
}


def rounded(whole: Bundle, way: str, recipe: Mapping[str, Any], data: Data) -> Bundle:
    """The model with 8 bits in its first and last layer, and 4 bits in the others by `way`."""
    first, *between, last = weight_layers(whole)
    own = {"quantize": {"calibration": recipe["calibration"]}}
    ends = technique.step("quantize", **recipe["ends"], **own["quantize"], leave_out=between)
    rest = [
        technique.step(name, **settings, **own.get(name, {}), leave_out=[first, last])
        for name, settings in recipe[way]
    ]
    return apply_recipe(whole, Recipe((ends, *rest)), data)[0]


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Draw calibration samples, round in both ways, and compare the files, read back, on the test set."""
    bundle, data = zoo.load(recipe["net"]), sets.load(zoo.entry(recipe["net"]).data)
    paired, few = Paired(bundle, data), drawn(data, recipe["calibration"], seed)
    figures = {FLOAT: paired.right()}
    for number, (name, way) in enumerate(((MINMAX, "min-max"), (CLIPPED, "ACIQ"))):
        progress(number / 2)
        figures[name] = 100 * paired.add(name, rounded(bundle, way, recipe, few)).value
    gain = paired.gain(MINMAX, CLIPPED)
    lost = figures[MINMAX]
    figures |= {GAIN: 100 * gain.value, LEAST: least(gain)}
    figures[WON] = figures[GAIN] / -lost if lost < 0 else 0.0
    progress(1.0)
    return Outcome(figures, {"models": paired.table()})


def judge(ours: Ours) -> str:
    """`reproduced`: in the median draw half of the loss is won back, and surely something.

    >>> judge({WON: [0.6], LEAST: [-0.1]})
    'not reached'
    """
    won = statistics.median(ours[WON]) >= LEAST_WON and statistics.median(ours[LEAST]) > 0
    return "reproduced" if won else "not reached"


ACIQ = Paper(
    name="aciq-resnet-20",
    paper="Banner et al. 2019, Post-training 4-bit quantization of convolutional networks, arXiv 1810.05723",
    claim="ResNet-50 with 4 bits for weights and activations is right in 62.15 % of ImageNet where grids "
    "span the smallest and largest values, and in 73.33 % with clips from a formula, bits for each channel "
    "and corrected means. Here it is ResNet-20 on CIFAR-10.",
    claims=(
        Claim(FLOAT, None, "%", "of the 10,000 test images right; nothing is chosen by them"),
        Claim(MINMAX, None, "points", "of the file, read back, against 32-bit floats on the same images"),
        Claim(CLIPPED, None, "points", "of the file, read back, against 32-bit floats on the same images"),
        Claim(
            GAIN,
            round(PUBLISHED["ACIQ"] - PUBLISHED["min-max"], 2),
            "points",
            "ACIQ - smallest to largest, on the same images",
        ),
        Claim(LEAST, None, "points", "lower end of the paired 95 % interval (Agresti, Min 2005)"),
        Claim(WON, None, "share", "of what rounding from the smallest to the largest value loses"),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="In the median seed ACIQ wins back at least half of the accuracy that grids from the smallest to "
    "the largest value lose, and the paired 95 % interval of what it wins lies above 0. A seed draws the 256 "
    "calibration samples from the training part.",
    judge=judge,
    run=partial(run, RECIPE),
)
