"""Sun 2023, Wanda: half of a language model's weights go at once, without training; here a small one."""

from __future__ import annotations

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
TITLES = {
    "layer": "the smallest of each layer gone",
    "global": "the smallest of all gone",
    "sparse_gpt": "SparseGPT",
    "wanda": "Wanda",
}
FLOAT = "test perplexity, all weights"
PRUNED = {way: f"test perplexity, {title}" for way, title in TITLES.items()}
BY_SIZE, FITTED = ("layer", "global"), ("sparse_gpt", "wanda")
JUDGED = "wanda"
PAIRS = [(way, rival) for way in FITTED for rival in BY_SIZE]
CHANGE = {pair: f"change from {TITLES[pair[1]]} to {TITLES[pair[0]]}" for pair in PAIRS}
MOST = {pair: f"most that this change may be: {TITLES[pair[1]]} to {TITLES[pair[0]]}" for pair in PAIRS}
PUBLISHED = {"float": 5.68, "layer": 17.29, "sparse_gpt": 7.22, "wanda": 7.26}  # LLaMA-7B (Sun 2023, table 3)
RECIPE: dict[str, Any] = {
    "net": NET,
    "steps": {
        "layer": ["prune_weights", {"score": "magnitude", "allocation": "layer"}],
        "global": ["prune_weights", {"score": "magnitude", "allocation": "global"}],
        "sparse_gpt": ["sparse_gpt", {"samples": 500}],
        "wanda": ["prune_weights", {"score": "wanda", "allocation": "row", "samples": 500}],
    },
    "all": {"sparsity": 0.5, "leave_out": ["tokens"]},
    "judged": JUDGED,
    "chosen by": "validation, seed 0: perplexity 150.8 by Wanda and 154.3 by SparseGPT",
    "what": "half of the weights of all decoders; the table of tokens, the last layer too, keeps all",
}


def run(recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Prune in each way, and compare the files, read back, on the same windows."""
    steps = {
        PRUNED[way]: technique.step(name, seed=seed, **own, **recipe["all"])
        for way, (name, own) in recipe["steps"].items()
    }
    trial = compared(recipe["net"], FLOAT, steps, progress)
    figures = trial.perplexities
    answers = {way: trial.answers[name]["test"] for way, name in PRUNED.items()}
    for way, rival in PAIRS:
        change = perplexity.change(answers[rival], answers[way])
        assert change.spread is not None
        figures |= {CHANGE[way, rival]: 100 * change.value, MOST[way, rival]: 100 * change.spread[1]}
    return Outcome(figures, trial.tables)


def judge(ours: Ours) -> str:
    """`reproduced`: in every seed, and against both ways to rank by size, the whole interval is below 0.

    >>> judge({MOST[JUDGED, "layer"]: [-9.0, -5.0], MOST[JUDGED, "global"]: [-9.0, 0.1]})
    'not reached'
    """
    is_sure = all(most < 0 for rival in BY_SIZE for most in ours[MOST[JUDGED, rival]])
    return "reproduced" if is_sure else "not reached"


def _published(way: str, rival: str) -> float | None:
    """The paper's change in %, where it has both."""
    if rival not in PUBLISHED:
        return None
    return round(100 * (PUBLISHED[way] / PUBLISHED[rival] - 1), 1)


WANDA = Paper(
    name="wanda-glass-en",
    paper="Sun et al. 2023, Wanda, arXiv 2306.11695; Frantar & Alistarh 2023, SparseGPT, arXiv 2301.00774",
    claim="With half of its weights, LLaMA-7B has perplexity 7.26 by Wanda, 7.22 by SparseGPT and 17.29 "
    "where the smallest of each layer go, 5.68 with all, and nothing is trained. Here it is a language model "
    "of 0.9 million parameters, whose samples are of the text that it is judged on and never read.",
    claims=(
        Claim(FLOAT, PUBLISHED["float"], "tokens", TEST),
        *(Claim(name, PUBLISHED.get(way), "tokens", TEST) for way, name in PRUNED.items()),
        *(
            Claim(
                CHANGE[pair], _published(*pair), "%", "of perplexity, after / before - 1, on the same windows"
            )
            for pair in PAIRS
        ),
        *(
            Claim(MOST[pair], None, "%", "upper end of the paired 95 % bootstrap interval over windows")
            for pair in PAIRS
        ),
    ),
    recipe=RECIPE,
    seeds=(0, 1, 2),
    rule="In every seed, Wanda's perplexity is below that of magnitude, ranked within layers and over all, "
    "with the whole paired 95 % interval. A seed picks which places of the training windows are fitted.",
    judge=judge,
    run=partial(run, RECIPE),
)
