"""ZeroQuant run again: what one seed finds, and the verdict over all."""

from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.papers import yao_zeroquant as paper
from engine.types import Progress


def test_a_run_compares_every_way_with_the_floats(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = sets.load("debian-topics")
    parts = (part.stratified(100) for part in (whole.train, whole.validation, whole.test))
    small = Data(whole.name, *parts, classes=whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: small)
    learned = {**paper.RECIPE["learned"], "samples": 50, "epochs": 1}
    outcome = paper.run({**paper.RECIPE, "learned": learned}, 0, Progress(), tmp_path)
    figures, table = outcome.figures, outcome.tables["models"].set_index(["model", "part"])
    assert {claim.name for claim in paper.ZEROQUANT.claims} == set(figures)
    assert len(table) == 2 * (1 + len(paper.NEAREST) + len(paper.LEARNED))
    for bits, way in paper.LEARNED:
        lost, left = figures[paper.NEAREST[bits]], figures[paper.LEARNED[bits, way]]
        assert figures[paper.WON[bits, way]] == pytest.approx((left - lost) / -lost if lost < 0 else 0.0)
    row = table.loc[(paper.NEAREST[2], "test")]
    assert row["change low"] < row["change"] < row["change high"]
    assert 100 * row["accuracy"] == pytest.approx(figures[paper.FLOAT] + figures[paper.NEAREST[2]])


@pytest.mark.parametrize(
    ("kept", "won", "verdict"),
    [(-0.3, 0.5, "reproduced"), (-0.31, 0.9, "not reached"), (0.1, 0.49, "not reached")],
)
def test_the_verdict(kept: float, won: float, verdict: str) -> None:
    ours = {paper.INT8: [9.0, kept, -9.0], paper.WON[paper.JUDGED, "training"]: [9.0, won, -9.0]}
    assert paper.judge(ours) == verdict
