"""Esser 2020: a residual net trained in 4, then 3, then 2 bits, with learned step sizes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.papers import harness
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Progress

NET = "resnet-20"
BITS = (4, 3, 2)
FLOATS = {bits: f"test error of the float model tuned as long as {bits} bits" for bits in BITS}
ERROR = {bits: f"test error at {bits} bits" for bits in BITS}
CHANGE = {bits: f"test error change at {bits} bits" for bits in BITS}
PUBLISHED = {4: -0.6, 3: 0.3, 2: 2.9}  # points: ResNet-18 on ImageNet, top-1, against its float model
BEARABLE = {4: 0.3, 3: 0.8, 2: 3.0}  # points
DECAY = {4: 1e-4, 3: 5e-5, 2: 2.5e-5}  # the paper's
RECIPE: dict[str, Any] = {
    "net": NET,
    "bits": list(BITS),
    "quantize_aware": {"end_bits": 8, "epochs": 12, "learning_rate": 0.01, "keep_zeros": False},
    "weight decay": list(DECAY.values()),
    "finetune": {"epochs": 12, "learning_rate": 0.01, "weight_decay": 1e-4},
    "start": "each width from the file of the one before it, the first from the model as it came",
    "before": "the float model, fine-tuned for as many epochs on the same schedule",
    "chosen by": "the paper: learning rate, weight decay, 8 bits at both ends",
}


def run(recipe: Mapping[str, Any], net: str, seed: int, progress: Progress, folder: Path) -> Outcome:
    """Train the float model and the rounded one on, width by width, and report on the test set."""
    images = sets.load_full(zoo.entry(net).data)
    floats = rounded = zoo.load(net)
    figures: dict[str, float] = {}
    layers = {}
    for number, bits in enumerate(BITS):
        begun, halfway, done = ((number + share) / len(BITS) for share in (0.0, 0.4, 1.0))
        own = {"seed": len(BITS) * seed + number}
        step = technique.step("finetune", **recipe["finetune"], **own)
        told = progress.part(begun, halfway, folder=folder / f"float-{bits}")
        floats, _ = apply(floats, step, images, told)
        own |= {"bits": bits, "activation_bits": bits, "weight_decay": recipe["weight decay"][number]}
        step = technique.step("quantize_aware", **recipe["quantize_aware"], **own)
        told = progress.part(halfway, done, folder=folder / f"bits-{bits}")
        rounded, report = apply(rounded, step, images, told)
        again = packfile.unpack(packfile.pack(rounded))
        for name, bundle in ((FLOATS[bits], floats), (ERROR[bits], again)):
            figures[name] = 100 * (1 - measure.accuracy(bundle, images.test).value)
        figures[CHANGE[bits]] = figures[ERROR[bits]] - figures[FLOATS[bits]]
        figures[f"bytes at {bits} bits"] = packfile.size(rounded).value
        layers[f"layers at {bits} bits"] = report.tables["layers"]
    return Outcome(figures, layers)


def judge(ours: Ours) -> str:
    """`reproduced`: at each width the median seed loses at most BEARABLE points.

    `beaten`: at each width it loses no more than the published net.

    >>> judge({CHANGE[4]: [0.2], CHANGE[3]: [0.8], CHANGE[2]: [3.1]})
    'not reached'
    """
    middle = {bits: statistics.median(ours[CHANGE[bits]]) for bits in BITS}
    if any(middle[bits] > BEARABLE[bits] for bits in BITS):
        return "not reached"
    return "beaten" if all(middle[bits] <= PUBLISHED[bits] for bits in BITS) else "reproduced"


def _claims(bits: int) -> tuple[Claim, ...]:
    return (
        Claim(FLOATS[bits], None, "%", harness.TEST_ERRORS),
        Claim(ERROR[bits], None, "%", f"{harness.TEST_ERRORS}; of the file, read back"),
        Claim(CHANGE[bits], PUBLISHED[bits], "points", "rounded - float, trained for as many epochs"),
    )


LSQ = Paper(
    name=f"lsq-{NET}",
    paper="Esser et al. 2020, Learned Step Size Quantization, arXiv 1902.08153, table 1",
    claim="ResNet-18 on ImageNet loses nothing at 4 bits, 0.3 points at 3 and 2.9 at 2, weights and inputs. "
    f"Here it is {zoo.entry(NET).title} on CIFAR-10, from 4 bits down to 2.",
    claims=tuple(claim for bits in BITS for claim in _claims(bits)),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="The median over the seeds of how much the error grew, against the float model trained as long, "
    "is at most 0.3 points at 4 bits, 0.8 at 3 and 3 at 2; beaten where it is at most -0.6, 0.3 and 2.9.",
    judge=judge,
    run=lambda seed, progress, folder: run(RECIPE, NET, seed, progress, folder),
)
