"""A BiLSTM taught by MiniLM, run again on a few texts, and the verdict over all seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import measure
from engine.net import zoo
from engine.net.zoo import minilm
from engine.papers import tang
from engine.types import Progress


def test_a_run_trains_the_same_student_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sets.load("debian-topics-minilm")
    few = replace(
        whole,
        **{
            part: getattr(whole, part).stratified(n)
            for part, n in (("train", 96), ("validation", 40), ("test", 60))
        },
    )
    asked = []

    def tuned(*args: object) -> object:
        asked.append(args[0])
        return zoo.seeded(minilm.NAME, 1).eval()

    monkeypatch.setattr(minilm, "tuned", tuned)
    monkeypatch.setattr(tang.sets, "load", lambda name: few)
    shares: list[float] = []
    recipe = {**tang.RECIPE, "students": {"epochs": 2, "learning_rate": 0.004}}
    outcome = tang.run(recipe, 3, Progress(lambda share, _: shares.append(share)), tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert asked == [minilm.PLAN], "one teacher for all seeds"
    figures = outcome.figures
    assert {claim.name for claim in tang.MINILM.claims} == set(figures)
    right = measure.accuracy(zoo.bundle_of(minilm.NAME, zoo.seeded(minilm.NAME, 1).state_dict()), few.test)
    assert figures[tang.TEACHER] == pytest.approx(100 * right.value)
    assert figures[tang.GAP] == pytest.approx(figures[tang.TEACHER] - figures[tang.PLAIN])
    assert len(outcome.tables["accuracy"]) == 6
    weights = 30_522 * 64 + 2 * 4 * 64 * (64 + 64 + 2) + 15 * 128 + 15
    assert figures[tang.SIZE] == pytest.approx(100 * weights / 22_570_383)


@pytest.mark.parametrize(
    ("gap", "won", "verdict"),
    [
        ((0.9, 5.0, 0.2), (90.0, 90.0, 90.0), "no gap"),
        ((5.0, 5.0, 5.0), (10.0, 50.0, 90.0), "reproduced"),
        ((5.0, 5.0, 5.0), (10.0, 49.0, 90.0), "not reached"),
    ],
)
def test_the_verdict(gap: tuple[float, ...], won: tuple[float, ...], verdict: str) -> None:
    assert tang.judge({tang.GAP: list(gap), tang.WON: list(won), tang.SIZE: [9.0] * 3}) == verdict
