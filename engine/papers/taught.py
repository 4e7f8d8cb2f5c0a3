"""Four prunings that missed their goals, run again with the whole net as teacher, of itself as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import sets
from engine.figures import count, measure
from engine.net import zoo
from engine.papers import han, harness, li, liu
from engine.papers.harness import Claim, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Bundle, Progress

TEACHER: dict[str, Any] = {"teacher": "original", "temperature": 4.0, "alpha": 0.7}
CAME = "test error of the net as it came"
ERRORS = harness.SEEN_ERRORS
CHOSEN: dict[str, Any] = {
    "teacher": "the whole net as it came; temperature and share are those that Fine-tune begins with",
    "chosen after": "the same recipe without a teacher, which did not reach its goal",
}
Steps = Sequence[tuple[str, Mapping[str, Any]]]  # technique and settings, one after the other


def run(
    net: str,
    training: Mapping[str, Any],
    whole: Steps,
    pruned: Steps,
    size: Callable[[Bundle, Bundle], Mapping[str, float]],
    seed: int,
    progress: Progress,
    folder: Path,
) -> Outcome:
    """Train a net, take it through the steps `whole` and through `pruned`, and report on the test set.

    `training` are the fields of the first training's `Plan`; `size` says what the pruned net has less.
    """
    data = sets.load(zoo.entry(net).data)
    came = han.trained(net, training, data, seed, progress.part(0.0, 0.1), folder)
    ends = [came, came]
    parts = progress.part(0.1, 0.5), progress.part(0.5, 1.0)
    for place, steps in enumerate((whole, pruned)):
        for number, (how, settings) in enumerate(steps):
            step = technique.step(how, **settings, seed=len(steps) * seed + number)
            share = (number / len(steps), (number + 1) / len(steps))
            told = parts[place].part(*share, folder=folder / f"{place}-{number}")
            ends[place], _ = apply(ends[place], step, data, told)
    lost = [100 * (1 - measure.accuracy(bundle, data.test).value) for bundle in (came, *ends)]
    held = [measure.accuracy(bundle, data.validation).value for bundle in ends]
    figures = {CAME: lost[0], han.BEFORE: lost[1], han.AFTER: lost[2], han.CHANGE: lost[2] - lost[1]}
    figures |= {"validation accuracy, whole": held[0], "validation accuracy, pruned": held[1]}
    return Outcome({**size(came, ends[1]), **figures})


CLAIM = "The whole net as it came teaches the pruned net, and the whole net that this is compared with."


def declared(
    like: Paper,
    size: str,
    rule: str,
    change: str,
    net: str,
    training: Mapping[str, Any],
    whole: Steps,
    pruned: Steps,
    of: Callable[[Bundle, Bundle], Mapping[str, float]],
    **chosen: str,
) -> Paper:
    """`like` with a teacher in its tuning, and judged by its numbers; `size` is its claim of what is pruned.

    `rule` and `change` say what its change is measured from, `chosen` what else the recipe was chosen by.
    """
    published = {claim.name: claim for claim in like.claims}
    recipe = {"net": net, "first training": training, "whole": whole, "pruned": pruned, **CHOSEN, **chosen}
    return replace(
        like,
        name=f"{like.name}-taught",
        claim=f"{like.claim} {CLAIM}",
        claims=(
            published[size],
            Claim(CAME, published[han.BEFORE].value, "%", ERRORS),
            Claim(han.BEFORE, None, "%", f"{ERRORS}; trained on as long, taught by itself as it came"),
            Claim(han.AFTER, published[han.AFTER].value, "%", ERRORS),
            Claim(han.CHANGE, published[han.CHANGE].value, "points", change),
        ),
        recipe=harness.as_json(recipe),
        rule=rule,
        run=partial(run, net, training, whole, pruned, of),
        start=CAME,
    )


def narrowed(net: str, like: Paper) -> Paper:
    """Li's pruning of a net of the zoo, with a teacher in both fine-tunings."""
    tuning = {**like.recipe["finetune"], **TEACHER}
    seen = f"{like.recipe['chosen after']}; and the same recipe without a teacher"
    return replace(
        like,
        name=f"{like.name}-taught",
        claim=f"{like.claim} {CLAIM}",
        recipe={**like.recipe, "finetune": tuning, **CHOSEN, "chosen after": seen},
        run=li.compared(net, like.recipe["at least"] / 100, tuning),
    )


PRUNING = han.LENET_5.recipe["prune_iteratively"]
LENET_5 = declared(
    han.LENET_5,
    han.RATIO,
    "At least 12 times fewer parameters, and the median over the seeds of how many more errors the pruned "
    "net makes than the whole one, tuned for as many epochs with itself as teacher, is at most 0; beaten "
    "with 13.2 times and a median error below 0.77 %.",
    "pruned - whole, tuned for as many epochs: the whole net's in one schedule, the other's in one a round",
    "lenet-5",
    han.LENET_5.recipe["first training"],
    [
        (
            "finetune",
            {
                "epochs": PRUNING["rounds"] * PRUNING["epochs"],
                "learning_rate": PRUNING["learning_rate"],
                "weight_decay": PRUNING["weight_decay"],
                **TEACHER,
            },
        )
    ],
    [("prune_iteratively", {**PRUNING, **TEACHER})],
    lambda came, after: {han.RATIO: han.ratio(after)},
    **{
        "chosen after": f"{han.LENET_5.recipe['chosen after']}; and the same recipe without a teacher",
        "rounds and weight decay chosen by": han.LENET_5.recipe["rounds and weight decay chosen by"],
    },
)
TAUGHT = [("finetune", {"epochs": epochs, "learning_rate": liu.RATE, **TEACHER}) for epochs in liu.EPOCHS[1:]]
SLIMMING = declared(
    liu.SLIMMING,
    liu.SHARE,
    "At least 84 % fewer parameters, and the median over the seeds of how many more errors the slimmed net "
    "makes than the whole one, trained for as many epochs with itself as teacher, is at most 0.1 point; "
    "beaten where it makes no more and the median error is below 1.49 %.",
    "slimmed - whole, trained for as many epochs: the whole net's 80 are all taught, the other's 60 after "
    "the cut",
    liu.NET,
    {
        "epochs": liu.EPOCHS[0],
        "learning_rate": liu.RATE,
        "schedule": "cosine",
        "weight_decay": 1e-4,
        "shift": 1,
    },
    TAUGHT,
    [("slim", {**liu.SLIM, "tuning": 0}), TAUGHT[1]],
    lambda came, after: {liu.SHARE: 100 * (1 - count.parameters(after).value / count.parameters(came).value)},
)
VGG, RESNET = narrowed("vgg-small", li.VGG), narrowed("resnet-20", li.RESNET)
