"""Liu 2017: a perceptron slimmed to a sixth of its parameters at almost the same error."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.figures import count, measure
from engine.net import zoo
from engine.papers import harness
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Progress

NET = "mlp-500-300"
SHARE = "parameters removed"
BEFORE = "test error before"
AFTER = "test error after"
CHANGE = "test error change"
PUBLISHED = {SHARE: 84.4, BEFORE: 1.43, AFTER: 1.49, CHANGE: 0.06}
BEARABLE = 0.1  # points
RATE = 0.1
EPOCHS = (20, 20, 60)  # the first training; with the penalty; of the narrow net
SLIM: dict[str, Any] = {
    "epochs": EPOCHS[1],
    "tuning": EPOCHS[2],
    "learning_rate": RATE,
    "removed": 0.8,
    "allocation": "layer",
    "strength": 1e-3,
}


def run(seed: int, progress: Progress, folder: Path) -> Outcome:
    """From the same trained net: one that is trained on as long as the other is slimmed and trained again."""
    images = sets.load("mnist")
    net = zoo.bundle_of(NET, dict(zoo.seeded(NET, seed).state_dict()))
    trained, total = [], sum(EPOCHS) + sum(EPOCHS[1:])
    for number, epochs in enumerate(EPOCHS):
        step = technique.step("finetune", epochs=epochs, learning_rate=RATE, seed=3 * seed + number)
        done = sum(EPOCHS[:number])
        part = progress.part(done / total, (done + epochs) / total, folder=folder / f"whole-{number}")
        net, _ = apply(net, step, images, part)
        trained.append(net)
    whole = trained[-1]
    step = technique.step("slim", **SLIM, seed=2 * seed)
    slimmed, report = apply(
        trained[0], step, images, progress.part(sum(EPOCHS) / total, 1.0, folder=folder / "slim")
    )
    lost = [100 * (1 - measure.accuracy(bundle, images.test).value) for bundle in (whole, slimmed)]
    sizes = [count.parameters(bundle).value for bundle in (whole, slimmed)]
    figures = {
        SHARE: 100 * (1 - sizes[1] / sizes[0]),
        BEFORE: lost[0],
        AFTER: lost[1],
        CHANGE: lost[1] - lost[0],
        **{f.name: float(f.value) for f in report.figures if f.name.startswith("validation")},
    }
    return Outcome(figures, {"layers": report.tables["layers"]})


def judge(ours: Ours) -> str:
    """`reproduced`: 84 % fewer parameters, and the median seed loses at most 0.1 point.

    `beaten`: the median seed loses nothing, and makes fewer errors than the published net.
    """
    middle = {name: statistics.median(values) for name, values in ours.items()}
    if middle[SHARE] < 84 or middle[CHANGE] > BEARABLE:
        return "not reached"
    beaten = middle[CHANGE] <= 0 and middle[AFTER] < PUBLISHED[AFTER]
    return "beaten" if beaten else "reproduced"


ERRORS = harness.SEEN_ERRORS
SLIMMING = Paper(
    name="slimming-mlp",
    paper="Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, "
    "arXiv 1708.06519, section 5",
    claim="A perceptron of 784-500-300-10 slimmed to 784-100-60-10 makes hardly more errors.",
    claims=(
        Claim(SHARE, PUBLISHED[SHARE], "%", "parameters of the slimmed net over those of the whole"),
        Claim(BEFORE, PUBLISHED[BEFORE], "%", ERRORS),
        Claim(AFTER, PUBLISHED[AFTER], "%", ERRORS),
        Claim(CHANGE, PUBLISHED[CHANGE], "points", "test error slimmed - whole, both trained equally long"),
    ),
    recipe={
        "net": NET,
        "finetune": {"epochs": EPOCHS[0], "learning_rate": RATE},
        "slim, after it": SLIM,
        "before": "the same trained net, fine-tuned twice more, for as many epochs as slim has",
        "images": "moved by up to a pixel in all trainings, as in the training of the zoo's nets",
        "chosen by": "validation accuracy of a seed of its own",
        "chosen after": "five seeds without moved images and with 20 epochs for the narrow net, "
        "whose test error grew by 0.28 points in the median",
    },
    seeds=(0, 1, 2, 3, 4),
    rule="At least 84 % fewer parameters, and the median over the seeds of how much the error grew "
    "is at most 0.1 point; beaten where it did not grow and the median error is below 1.49 %.",
    judge=judge,
    run=run,
)
