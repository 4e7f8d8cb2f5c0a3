"""QIL beside LSQ: one run of each, and the verdict."""

from functools import partial
from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.papers import esser, harness, jung
from engine.types import Progress


@pytest.mark.usefixtures("few")
def test_intervals_are_compared_with_the_steps_of_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def lsq(paper: harness.Paper, seed: int, progress: Progress) -> dict[str, dict[str, float]]:
        asked.append((paper.name, seed))
        return {"figures": {jung.BY_STEPS: 40.0}}

    monkeypatch.setattr(harness, "run", lsq)
    short = {**jung.RECIPE["learn_intervals"], "epochs": 1}
    run = partial(jung.run, {"net": "lenet-5-small", "learn_intervals": short})
    outcome = run(2, Progress(), tmp_path)
    assert asked == [(esser.LSQ.name, 2)]
    figures = outcome.figures
    assert figures[jung.CHANGE] == figures[jung.BY_INTERVALS] - 40
    assert 0 < figures[jung.BY_INTERVALS] < 85  # chance has 90
    assert outcome.tables["layers"]["bits"].tolist() == [8, 3, 3, 8]


def test_the_verdict() -> None:
    for changes, verdict in (
        ([0.51, 0.52, 0.0], "not reached"),
        ([0.5, 0.6, 0.1], "reproduced"),
        ([0.0, 0.6, -0.1], "beaten"),
    ):
        assert jung.judge({jung.CHANGE: changes}) == verdict
