"""ZeroQ as a reproduction: what a run holds, and what its numbers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.papers import cai
from engine.types import Progress


def test_a_run_compares_three_sources_on_the_same_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = sets.load("cifar10")
    few = Data(whole.name, whole.train, whole.validation, whole.test.stratified(100), whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: few)
    outcome = cai.run({**cai.RECIPE, "net": "resnet-8", "images": 16, "steps": 10}, 0, Progress(), tmp_path)
    figures = outcome.figures
    assert set(figures) == {claim.name for claim in cai.ZEROQ.claims}
    at = {key: figures[name] for key, name in cai.ERRORS.items()}
    assert figures[cai.OVER_REAL] == pytest.approx(at[8, cai.DISTILLED] - at[8, cai.REAL])
    assert figures[cai.OVER_NOISE] == pytest.approx(at[4, cai.DISTILLED] - at[4, cai.NOISE])
    assert figures[cai.MOST_OVER_NOISE] > figures[cai.OVER_NOISE]
    assert at[4, cai.REAL] > at[8, cai.REAL]


@pytest.mark.parametrize(
    ("over_real", "most", "verdict"),
    [(0.5, -0.1, "reproduced"), (0.6, -0.1, "not reached"), (0.1, 0.0, "not reached")],
)
def test_the_verdict(over_real: float, most: float, verdict: str) -> None:
    ours = {cai.OVER_REAL: [-9.0, over_real, 9.0], cai.MOST_OVER_NOISE: [-9.0, most, 9.0]}
    assert cai.judge(ours) == verdict
