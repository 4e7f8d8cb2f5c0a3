"""He 2017: half of a residual net's multiply-adds pruned away with channels, at a bearable loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from engine import channels, zoo
from engine.papers import narrow
from engine.papers.harness import Claim, Paper
from engine.types import Bundle

NET = "resnet-20"
SHARES = tuple(i / 16 for i in range(13, 2, -1))  # of the channels that a layer reads, kept
TARGET = 0.5  # of the multiply-adds
TUNING: dict[str, Any] = {"epochs": 20, "learning_rate": 0.05, "precision": "bfloat16"}
BEARABLE = 1.5  # points
ERRORS = "wrong answers to the 10,000 test images; nothing is chosen by them"


def _readers(bundle: Bundle) -> Sequence[str]:
    """Layers that alone read what another makes, and no shortcut passes on."""
    groups = channels.groups(bundle).values()
    return [
        group.reads[0].param.removesuffix(".weight")
        for group in groups
        if not group.stream and len(group.reads) == 1
    ]


CHANNELS = Paper(
    name=f"channels-{NET}",
    paper="He et al. 2017, Channel Pruning for Accelerating Very Deep Networks, arXiv 1707.06168",
    claim="ResNet-56 with half its multiply-adds loses a point. "
    f"Here it is {zoo.entry(NET).title}, a smaller net of the same kind.",
    claims=(
        Claim(narrow.MACS, 50.0, "%", "weights x positions where they are used, whole net"),
        Claim(narrow.PARAMETERS, None, "%", "of the whole net's"),
        Claim(narrow.BEFORE, 7.2, "%", f"{ERRORS}; the net as it came"),
        Claim(narrow.AFTER, 8.2, "%", ERRORS),
        Claim(narrow.CHANGE, 1.0, "points", "narrow, fine-tuned - whole, as it came"),
    ),
    recipe={
        "net": NET,
        "prune_channels": {"by": "lasso", "refit": True, "shares": list(SHARES)},
        "shares chosen by": f"cross-entropy of {narrow.SCANNED} validation images, layer by layer",
        "at least": 100 * TARGET,
        "finetune": TUNING,
        "before": "the whole net as it came",
    },
    seeds=(0, 1, 2),
    rule="At least 50 % fewer multiply-adds, and the median over the seeds of how much the error grew is at "
    f"most {BEARABLE:g} points; beaten where it did not grow.",
    judge=partial(narrow.judge, 50.0, BEARABLE),
    run=partial(
        narrow.compare, NET, "prune_channels", {"kept": 1.0}, _readers, SHARES, TARGET, TUNING, False
    ),
)
