"""Yao 2022, ZeroQuant: 8 bits for nothing, few bits with blocks that learn; here a small transformer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.net import zoo
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.papers.paired import Paired
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Progress, Step

NET = "transformer-topics"
BITS = (4, 2)
JUDGED = 2  # bits at which rounding to nearest loses enough to say anything
WAYS = {"training": "training samples", "random": "random word pieces"}
FLOAT, INT8 = "test accuracy, 32-bit floats", "change with 8 bits, a scale for each token"
NEAREST = {bits: f"change with {bits} bits, rounded to nearest" for bits in BITS}
LEARNED = {
    (bits, way): f"change with {bits} bits, blocks learned from {WAYS[way]}"
    for bits, way in ((4, "training"), (JUDGED, "training"), (JUDGED, "random"))
}
WON = {key: f"share won back with {key[0]} bits, blocks learned from {WAYS[key[1]]}" for key in LEARNED}
MOST_LOST, LEAST_WON = -0.3, 0.5
ROUNDING: dict[str, Any] = {"granularity": "group", "group": 64, "range": "minmax"}
APART: dict[str, Any] = {"per_layer": {"tokens": 8, "places": 8}}  # the tables of word pieces and places
RECIPE: dict[str, Any] = {
    "net": NET,
    "int8": {"bits": 8, "activations": "token", "activation_bits": 8, **ROUNDING},
    "bits": list(BITS),
    "nearest": {"activations": "token", "activation_bits": 8, **ROUNDING, **APART},
    "learned": {"activation_bits": 8, "goal": "block", "samples": 1000, "epochs": 5, **ROUNDING, **APART},
    "judged at": f"{JUDGED} bits: at 4 bits rounding to nearest loses 0.4 of 70.5 points of validation "
    "accuracy, which may be chance, at 2 bits 4.8",
    "chosen by": "validation at 2 bits, seed 0: a block that is to give what it gave for the same inputs, as "
    "in the paper, or what it gave in the model: they tie (69.2 and 69.1 %)",
    "chosen after": "seed 0 of code whose step sizes learned at the rate of weights and whose classifier was "
    "to give what it gave for rounded inputs: on test 8 bits -0.24 points, 4 bits 0.00 and learned -0.18, 2 "
    "bits -3.72 and learned -1.04; neither was changed for these",
    "what": "weights of all encoders and of the classifier in groups of 64, tables of word pieces and places "
    "at 8 bits; 8 bits for each token that enters a layer",
}
COUNTED = "of 1,638 test texts, against the 32-bit model on the same texts; of the file, read back"


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Round to nearest, let blocks learn, and compare the files, read back, on test and validation."""
    bundle, data = zoo.load(recipe["net"]), sets.load(zoo.entry(recipe["net"]).data)
    paired = Paired(bundle, data, validation=True)
    figures = {FLOAT: paired.right()}

    def tell(name: str, step: Step, told: Progress) -> None:
        figures[name] = 100 * paired.add(name, apply(bundle, step, data, told)[0]).value

    tell(INT8, technique.step("quantize", **recipe["int8"]), progress.part(0, 0))
    for number, (bits, way) in enumerate(LEARNED):
        if NEAREST[bits] not in figures:
            nearest = technique.step("quantize", bits=bits, **recipe["nearest"])
            tell(NEAREST[bits], nearest, progress.part(0, 0))
        own = {"bits": bits, "learn_from": way, "seed": seed}
        learned = technique.step("zeroquant", **own, **recipe["learned"])
        share = progress.part(
            number / len(LEARNED), (number + 1) / len(LEARNED), folder=folder / f"{bits}-{way}"
        )
        tell(LEARNED[bits, way], learned, share)
        lost = figures[NEAREST[bits]]
        won = figures[LEARNED[bits, way]] - lost
        figures[WON[bits, way]] = won / -lost if lost < 0 else 0.0
    return Outcome(figures, {"models": paired.table()})


def judge(ours: Ours) -> str:
    """`reproduced`: in the median seed 8 bits lose at most 0.3 points, and half of the loss is won back.

    >>> judge({INT8: [-0.1], WON[2, "training"]: [0.4]})
    'not reached'
    """
    kept = statistics.median(ours[INT8]) >= MOST_LOST
    won = statistics.median(ours[WON[JUDGED, "training"]]) >= LEAST_WON
    return "reproduced" if kept and won else "not reached"


ZEROQUANT = Paper(
    name="zeroquant-transformer-topics",
    paper="Yao et al. 2022, ZeroQuant, arXiv 2206.01861",
    claim="BERT-base in 8 bits, with a scale for each token, loses 0.2 points of GLUE without any training; "
    "with 4 bits in its wide layers and 8 in the others, learning layer by layer wins some of the loss back. "
    "Here it is a transformer of 0.5 million parameters on topics of packages.",
    claims=(
        Claim(FLOAT, None, "%", "of 1,638 test texts right; figures of an earlier try were seen"),
        Claim(INT8, -0.2, "points", COUNTED),
        *(Claim(name, None, "points", COUNTED) for name in NEAREST.values()),
        *(Claim(name, None, "points", COUNTED) for name in LEARNED.values()),
        *(
            Claim(name, None, "share", "of the loss of rounding to nearest; 0 where it lost nothing")
            for name in WON.values()
        ),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="In the median seed 8 bits lose at most 0.3 points, and at 2 bits, where rounding to nearest loses "
    "more than chance can make, blocks that learned from training samples win at least half of it back. A "
    "seed picks the samples and their order.",
    judge=judge,
    run=partial(run, RECIPE),
)
