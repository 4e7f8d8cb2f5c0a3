"""Li 2017: a third of the multiply-adds pruned away with whole filters, at almost the same error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.net import channels, zoo
from engine.papers import harness, narrow
from engine.papers.harness import Claim, Outcome, Paper
from engine.types import Bundle, Progress

SHARES = tuple(i / 16 for i in range(1, 13))  # of a layer removed
PRUNING: dict[str, Any] = {"score": "l1", "allocation": "layer", "removed": 0.0, "seed": 0}
TUNING: dict[str, Any] = {"learning_rate": 0.02, "precision": "bfloat16"}
BEARABLE = 0.3  # points
ERRORS = harness.SEEN_ERRORS


def _free(bundle: Bundle) -> Sequence[str]:
    """Layers whose filters no shortcut passes on."""
    return [name for name, group in channels.groups(bundle).items() if not group.stream]


def compared(
    net: str, at_least: float, tuning: Mapping[str, Any]
) -> Callable[[int, Progress, Path], Outcome]:
    """Runs a seed: a net of the zoo without that share of its work, and the whole net, both fine-tuned."""
    return partial(narrow.compare, net, "prune_filters", PRUNING, _free, SHARES, at_least, tuning, True)


def declared(
    net: str, like: str, published: tuple[float, float, float, float], epochs: int, **chosen: str
) -> Paper:
    """The declaration for one net; `published` is multiply-adds and parameters removed, errors, in %.

    `chosen` says by what, or after what, the recipe was chosen.
    """
    macs, parameters, before, after = published
    tuning = {"epochs": epochs, **TUNING}
    change = round(after - before, 2)
    return Paper(
        name=f"filters-{net}",
        paper="Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv 1608.08710, table 1",
        claim=f"{like} with {macs:g} % fewer multiply-adds makes no more errors. Here it is "
        f"{zoo.entry(net).title}, a smaller net of the same kind.",
        claims=(
            Claim(narrow.MACS, macs, "%", "weights x positions where they are used, whole net"),
            Claim(narrow.PARAMETERS, parameters, "%", "of the whole net's"),
            Claim(narrow.UNTRAINED, None, "%", ERRORS),
            Claim(narrow.BEFORE, before, "%", f"{ERRORS}; fine-tuned as long as the narrow net"),
            Claim(narrow.AFTER, after, "%", ERRORS),
            Claim(narrow.CHANGE, change, "points", "narrow - whole, both fine-tuned"),
        ),
        recipe={
            "net": net,
            "prune_filters": PRUNING,
            "shares": list(SHARES),
            "shares chosen by": f"cross-entropy of {narrow.SCANNED} validation images, layer by layer",
            "at least": macs,
            "finetune": tuning,
            **{key.replace("_", " "): words for key, words in chosen.items()},
            "before": "the whole net, fine-tuned as long",
        },
        seeds=(0, 1, 2),
        rule=f"At least {int(macs)} % fewer multiply-adds, and the median over the seeds of how much the "
        f"error grew, against the whole net fine-tuned as long, is at most {BEARABLE:g} points; beaten where "
        f"it grew by at most {min(0.0, change):g}.",
        judge=partial(narrow.judge, int(macs), BEARABLE, change),
        run=compared(net, macs / 100, tuning),
    )


VGG = declared(
    "vgg-small",
    "VGG-16",
    (34.2, 64.0, 6.75, 6.60),
    epochs=40,
    epochs_chosen_by="the paper, which retrains for 40",
    steps_of_shares_chosen_by="validation accuracy of the cut net: 68.6 %, with steps of an eighth 57.8 %",
    chosen_after="three seeds with 12 epochs, whose test error grew by 0.33 points in the median, "
    "and before them three with steps of an eighth, 0.36",
)
RESNET = declared(
    "resnet-20",
    "ResNet-56",
    (27.6, 13.7, 6.96, 6.94),
    epochs=12,
    epochs_chosen_by="validation accuracy: after 4 epochs VGG small had lost 0.7 points of it",
    steps_of_shares_chosen_by="validation accuracy of the cut net: 83.1 %, with steps of an eighth 79.0 %",
    learning_rate_chosen_by="validation accuracy of a seed of its own: "
    "90.9 %, at 0.05 with a weight decay of 0.0005 90.5 %",
    chosen_after="three seeds with steps of an eighth, whose test error grew by 0.46 points in the median",
)
