"""Distillation on MNIST run again: what one seed finds, the bias by brute force, and the verdict."""

from pathlib import Path

import pytest
import torch

from engine.data import sets
from engine.data.sets import Data
from engine.papers import hinton as paper
from engine.types import Cancelled, Progress

SHORT = {
    **paper.RECIPE,
    "teacher": {"hidden": 64, "dropout": [0.1, 0.2, 0.2]},
    "student": {"hidden": 32, "dropout": []},
    "teacher's plan": {"epochs": 8, "learning_rate": 0.005, "shift": 1},
    "student's plan": {"epochs": 6, "learning_rate": 0.005},
}


def test_a_run_trains_all_four_counts_their_errors_and_resumes_exactly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = sets.load("mnist")
    parts = (p.stratified(n) for p, n in ((whole.train, 600), (whole.validation, 300), (whole.test, 300)))
    few = Data(whole.name, *parts, classes=whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: few)
    shares: list[float] = []
    outcome = paper.run(SHORT, 1, Progress(lambda share, _: shares.append(share)), tmp_path / "whole")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    figures = outcome.figures
    assert {claim.name for claim in paper.DISTILLATION.claims} == set(figures)
    threes = int((few.test.labels == 3).sum())
    assert figures[paper.WITHOUT_RIGHT] < figures[paper.CORRECTED_RIGHT]
    assert figures[paper.WITHOUT] >= threes * (1 - figures[paper.WITHOUT_RIGHT] / 100) - 1e-9
    errors = outcome.tables["errors"].set_index(["net", "part"])["errors"]
    assert errors[paper.CORRECTED, "validation"] < errors[paper.WITHOUT, "validation"]
    assert errors[paper.PLAIN, "test"] == figures[paper.PLAIN]
    seen: list[float] = []
    told = Progress(lambda share, _: seen.append(share), lambda: len(seen) > 20)  # amidst the teacher
    with pytest.raises(Cancelled):
        paper.run(SHORT, 1, told, tmp_path / "cut")
    assert 0 < seen[-1] < SHORT["shares of the time"][0]
    assert paper.run(SHORT, 1, Progress(), tmp_path / "cut").figures == figures


def test_students_begin_alike_and_the_teacher_stays_as_it_is() -> None:
    one, other = (paper.net_of((784, 800, 800, 10), (), seed) for seed in (0, 0))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one[1].weight, paper.net_of((784, 800, 800, 10), (), 1)[1].weight)
    assert sum(p.numel() for p in one.parameters()) == 785 * 800 + 801 * 800 + 801 * 10


def test_no_bias_on_a_fine_grid_is_better() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 5, generator=rng), torch.randint(5, (200,), generator=rng)
    logits[:, 2] -= 3
    best = paper.best_bias(logits, labels, 2)
    least = min(paper.wrong(paper.with_bias(logits, 2, b / 100), labels) for b in range(-500, 900))
    assert paper.wrong(paper.with_bias(logits, 2, best), labels) == least


@pytest.mark.parametrize(
    ("closed", "right", "verdict"),
    [
        (40.0, 95.0, "reproduced"),
        (39.9, 99.0, "not reached"),
        (95.0, 94.9, "not reached"),
        (91.1, 98.6, "beaten"),
        (91.2, 98.5, "reproduced"),
    ],
)
def test_the_verdict(closed: float, right: float, verdict: str) -> None:
    ours = {paper.CLOSED: [0.0, closed, 200.0], paper.CORRECTED_RIGHT: [0.0, right, 100.0]}
    assert paper.judge(ours) == verdict
