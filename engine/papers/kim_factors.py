"""Kim 2018, factor transfer: a small residual net learns from a large one's feature maps, or its answers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from engine.data import sets
from engine.figures import measure, students
from engine.net import zoo
from engine.papers import harness
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Bundle, Progress

NET = "resnet-20"
TEACHER, PLAIN = "test error of the teacher", "test error of the plain student"
WAYS = {"factor_transfer": "factor transfer", "distill": "distillation"}
ERROR = {way: f"test error by {title}" for way, title in WAYS.items()}
GAIN = {way: f"gain by {title}" for way, title in WAYS.items()}
PUBLISHED = {"factor_transfer": 0.64, "distill": 0.45}  # points: a run of others, ResNet-110 to ResNet-20
LEAST = 0.4  # points
RECIPE: dict[str, Any] = {
    "net": NET,
    "students": {"epochs": 15, "learning_rate": 0.01, "precision": "bfloat16"},
    "factor_transfer": {"factors": 0.5, "weight": 500.0, "paraphraser_epochs": 5},
    "distill": {"temperature": 4.0, "alpha": 0.7},
    "chosen by": "the authors' code: half of the channels, weight 500; the defaults of Distill",
    "what": "all three students of a seed have the same first weights and see the same images in one order",
}


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Train the same student three times: on labels alone, and by either way of learning from the teacher."""
    data, teacher = sets.load_full(zoo.entry(recipe["net"]).data), zoo.load(recipe["net"])
    plan = students.plan(**recipe["students"], seed=seed)
    told = progress.part(0.0, 0.2, folder=folder / "plain")
    alone, _ = students.train(
        students.student_of(teacher), data, plan, students.labels_alone, False, told, told
    )
    models: dict[str, Bundle] = {TEACHER: teacher, PLAIN: alone["distilled"]}
    for number, way in enumerate(WAYS):
        own = {**recipe["students"], **recipe[way], "subset": 55_000, "control": False, "seed": seed}
        share = progress.part(0.2 + 0.4 * number, 0.6 + 0.4 * number, folder=folder / way)
        models[ERROR[way]], _ = apply(teacher, technique.step(way, **own), data, share)
    wrong = {name: 100 * (1 - measure.accuracy(each, data.test).value) for name, each in models.items()}
    gains = {GAIN[way]: wrong[PLAIN] - wrong[ERROR[way]] for way in WAYS}
    held = [
        {"model": name, "validation accuracy": measure.accuracy(each, data.validation).value}
        for name, each in models.items()
    ]
    return Outcome({**wrong, **gains}, {"validation": pd.DataFrame(held)})


def judge(ours: Ours) -> str:
    """`reproduced`: both ways gain LEAST points in the median seed, and something in every seed.

    `beaten`: also as much as published.

    >>> judge({GAIN["factor_transfer"]: [0.5, 0.6, -0.1], GAIN["distill"]: [0.5, 0.5, 0.5]})
    'not reached'
    """
    gains = {way: ours[GAIN[way]] for way in WAYS}
    if any(statistics.median(each) < LEAST or min(each) <= 0 for each in gains.values()):
        return "not reached"
    is_beaten = all(statistics.median(each) >= PUBLISHED[way] for way, each in gains.items())
    return "beaten" if is_beaten else "reproduced"


COUNTED = "test error of the plain student - this; published: a public run of ResNet-110 to ResNet-20"
FACTORS = Paper(
    name=f"factors-{NET}",
    paper="Kim, Park, Kwak 2018, Paraphrasing Complex Network: Network Compression via Factor Transfer, "
    "arXiv 1802.04977; Hinton, Vinyals, Dean 2015, arXiv 1503.02531; figures of KD-Zoo's runs of both",
    claim="A residual net on CIFAR-10 that learns from the factors of a larger one's feature maps makes "
    "fewer errors than from labels alone, and so it does from softened answers: 0.64 and 0.45 points fewer "
    "where ResNet-110 teaches ResNet-20. Here ResNet-20 teaches ResNet-8.",
    claims=(
        *(Claim(name, None, "%", harness.TEST_ERRORS) for name in (TEACHER, PLAIN, *ERROR.values())),
        *(Claim(GAIN[way], PUBLISHED[way], "points", COUNTED) for way in WAYS),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="Either way beats the plain student of the same seed by at least 0.4 points in the median, and in "
    "every seed; beaten where both gain as much as published.",
    judge=judge,
    run=partial(run, RECIPE),
)
