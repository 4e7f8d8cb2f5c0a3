"""Frantar 2022, GPTQ: with 3 bits a weight, a language model that does not fall apart; here a small one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.figures import perplexity
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.papers.read_on import TEST, compared
from engine.recipe import technique
from engine.types import Progress

NET = "glass-en"
JUDGED = "gptq"
TITLES = {"rtn": "each weight to its nearest level", "gptq": "GPTQ", "awq": "AWQ"}
FLOAT = "test perplexity, 32-bit floats"
ROUNDED = {method: f"test perplexity, {title}" for method, title in TITLES.items()}
FITTED = ("gptq", "awq")
SHARE = {method: f"share of the nearest levels' loss that {TITLES[method]} loses" for method in FITTED}
MOST = {method: f"most that this share may be, {TITLES[method]}" for method in FITTED}
HALF = 0.5
PUBLISHED = {
    "float": 5.68,
    "rtn": 25.54,
    "gptq": 8.07,
}  # LLaMA-7B, WikiText-2: the table of the authors' code
RECIPE: dict[str, Any] = {
    "net": NET,
    "weight_only": {"bits": 3, "group": 64, "range": "minmax", "include_embedding": False, "samples": 500},
    "methods": list(TITLES),
    "judged": JUDGED,
    "chosen by": "validation, seed 0: GPTQ loses 0.36 of what nearest levels lose, AWQ 0.55",
    "what": "weights of all decoders; the table of tokens, which is the last layer too, stays 32-bit floats",
}


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Round by each method, and compare the files, read back, on the same windows."""
    steps = {
        ROUNDED[method]: technique.step("weight_only", method=method, seed=seed, **recipe["weight_only"])
        for method in recipe["methods"]
    }
    trial = compared(recipe["net"], FLOAT, steps, progress)
    figures = trial.perplexities
    whole, nearest = (trial.answers[name]["test"] for name in (FLOAT, ROUNDED["rtn"]))
    for method in FITTED:
        share = perplexity.share_of_loss(whole, nearest, trial.answers[ROUNDED[method]]["test"])
        assert share.spread is not None
        figures |= {SHARE[method]: share.value, MOST[method]: share.spread[1]}
    return Outcome(figures, trial.tables)


def judge(ours: Ours) -> str:
    """`reproduced`: in the median seed at most half is lost, and surely less than by nearest levels.

    >>> judge({SHARE[JUDGED]: [0.4], MOST[JUDGED]: [1.1]})
    'not reached'
    """
    is_half = statistics.median(ours[SHARE[JUDGED]]) <= HALF
    is_sure = statistics.median(ours[MOST[JUDGED]]) < 1
    return "reproduced" if is_half and is_sure else "not reached"


def _published() -> float:
    lost = {method: PUBLISHED[method] - PUBLISHED["float"] for method in ("rtn", "gptq")}
    return round(lost["gptq"] / lost["rtn"], 2)


GPTQ = Paper(
    name="gptq-glass-en",
    paper="Frantar et al. 2022, GPTQ, arXiv 2210.17323; its code's table for LLaMA; Lin et al. 2023, AWQ, "
    "arXiv 2306.00978",
    claim="LLaMA-7B in 3 bits has perplexity 8.07 with GPTQ and 25.54 with nearest levels, 5.68 in 16-bit "
    "floats, with a scale for each output. Here it is a language model of 0.9 million parameters, in groups "
    "of 64, where nearest levels lose far less.",
    claims=(
        Claim(FLOAT, PUBLISHED["float"], "tokens", TEST),
        Claim(ROUNDED["rtn"], PUBLISHED["rtn"], "tokens", TEST),
        Claim(ROUNDED["gptq"], PUBLISHED["gptq"], "tokens", TEST),
        Claim(ROUNDED["awq"], None, "tokens", TEST),
        Claim(SHARE["gptq"], _published(), "share", "of the rise in perplexity, on the same windows"),
        Claim(SHARE["awq"], None, "share", "of the rise in perplexity, on the same windows"),
        *(
            Claim(name, None, "share", "upper end of the paired 95 % bootstrap interval over windows")
            for name in MOST.values()
        ),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="In the median seed GPTQ raises perplexity at most half as much as nearest levels do, and the "
    "paired 95 % interval of that share lies below 1. A seed picks which places of the training windows are "
    "fitted.",
    judge=judge,
    run=partial(run, RECIPE),
)
