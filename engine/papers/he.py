"""He 2017: half of a residual net's multiply-adds pruned away with channels, at a bearable loss."""

from __future__ import annotations

from functools import partial
from typing import Any

from engine.net import zoo
from engine.papers import harness, narrow
from engine.papers.harness import Claim, Paper
from engine.techniques.prune.prune_channels import prunable

NET = "resnet-20"
SHARES = tuple(i / 16 for i in range(3, 14))  # of the channels that a layer reads, removed
TARGET = 0.5  # of the multiply-adds
PRUNING: dict[str, Any] = {"selection": "lasso", "refit": True, "samples": 2000, "removed": 0.0, "seed": 0}
TUNING: dict[str, Any] = {"epochs": 20, "learning_rate": 0.05, "precision": "bfloat16"}
BEARABLE, PUBLISHED = 1.5, 1.0  # points
ERRORS = harness.SEEN_ERRORS


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
        Claim(narrow.CHANGE, PUBLISHED, "points", "narrow, fine-tuned - whole, as it came"),
    ),
    recipe={
        "net": NET,
        "prune_channels": PRUNING,
        "shares": list(SHARES),
        "layers": "the second convolution of each block; the streams that shortcuts add to stay whole",
        "shares chosen by": f"cross-entropy of {narrow.SCANNED} validation images, layer by layer",
        "at least": 100 * TARGET,
        "finetune": TUNING,
        "chosen after": "a try with 8 epochs at a rate of 0.02, which cut 52.4 % and lost 1.24 points of "
        "validation and 1.84 of test accuracy (seed 0)",
        "before": "the whole net as it came",
    },
    seeds=(0, 1, 2),
    rule="At least 50 % fewer multiply-adds, and the median over the seeds of how much the error grew is at "
    f"most {BEARABLE:g} points; beaten where it did not grow.",
    judge=partial(narrow.judge, 50.0, BEARABLE, PUBLISHED),
    run=partial(narrow.compare, NET, "prune_channels", PRUNING, prunable, SHARES, TARGET, TUNING, False),
)
