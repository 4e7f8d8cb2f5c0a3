"""The shared projection run again: what one seed finds, and the verdict over all."""

from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.papers import prabhavalkar as paper
from engine.types import Cancelled, Progress


@pytest.mark.usefixtures("few")
def test_a_run_tunes_both_models_and_resumes_exactly(tmp_path: Path) -> None:
    recipe = {**paper.RECIPE, "net": "lstm-32", "finetune": {"epochs": 1}}
    shares: list[float] = []
    outcome = paper.run(recipe, 1, Progress(lambda share, _: shares.append(share)), tmp_path / "whole")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    figures = outcome.figures
    assert {claim.name for claim in paper.PROJECTION.claims} == set(figures)
    # By hand: of 8,266 parameters 4,416 are W_h (128 x 32) and fc (10 x 32): both become thin, with a P of
    # r x 32, at the largest r that fits in 27.5 % of them.
    rank = int(0.275 * 4_416 / 170)
    assert figures[paper.PARAMETERS] == pytest.approx(100 * (8_266 - 4_416 + 170 * rank) / 8_266)
    assert figures[paper.CHANGE] == pytest.approx(figures[paper.AFTER] - figures[paper.BEFORE])
    assert figures[paper.CHANGE_8] == pytest.approx(figures[paper.AFTER_8] - figures[paper.BEFORE])
    assert len(outcome.tables["validation"]) == 5
    seen: list[float] = []
    with pytest.raises(Cancelled):
        paper.run(
            recipe, 1, Progress(lambda share, _: seen.append(share), lambda: len(seen) > 4), tmp_path / "cut"
        )
    assert seen[-1] < 1
    assert paper.run(recipe, 1, Progress(), tmp_path / "cut").figures == figures


@pytest.mark.parametrize(
    ("left", "size", "change", "rounded", "verdict"),
    [
        (33.3, 10.0, 0.2, 0.3, "reproduced"),
        (33.4, 9.0, 0.0, 0.0, "not reached"),
        (32.0, 10.1, 0.0, 0.0, "not reached"),
        (32.0, 9.0, 0.21, 0.0, "not reached"),
        (32.0, 9.0, 0.0, 0.31, "not reached"),
    ],
)
def test_the_verdict(left: float, size: float, change: float, rounded: float, verdict: str) -> None:
    ours = {paper.PARAMETERS: [left] * 3, paper.BYTES: [size] * 3}
    ours |= {paper.CHANGE: [9.0, change, -9.0], paper.CHANGE_8: [-9.0, rounded, 9.0]}
    assert paper.judge(ours) == verdict
