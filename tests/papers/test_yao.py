"""Mixed against uniform bits as a reproduction: what a run holds, and what its numbers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.papers import yao
from engine.types import Progress


def test_a_run_compares_at_no_more_bytes_and_on_the_same_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = sets.load("mnist")
    few = Data(whole.name, whole.train, whole.validation, whole.test.stratified(200), whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: few)
    monkeypatch.setitem(yao.RECIPE["mixed_precision"], "samples", 50)
    outcome = yao.run({**yao.RECIPE, "net": "lenet-5-small"}, 0, Progress(), tmp_path)
    figures = outcome.figures
    for bits in yao.BITS:
        assert figures[f"bytes mixed at {bits}"] <= figures[f"bytes of {bits} bits"]
        change = figures[yao.MIXED[bits]] - figures[yao.EVEN[bits]]
        assert figures[yao.CHANGE[bits]] == pytest.approx(change)
        assert figures[yao.MOST[bits]] > figures[yao.CHANGE[bits]]
        layers = outcome.tables[f"layers at the bytes of {bits}"]
        assert layers["bytes"].sum() == figures[f"bytes mixed at {bits}"]
        assert set(layers["uniform_bits"]) == {bits}
    assert {claim.name for claim in yao.MIXED_BITS.claims} <= set(figures)


@pytest.mark.parametrize(
    ("changes", "most", "verdict"),
    [
        ((-3.0, -1.0, -0.5), (-2.0, -0.5, -0.1), "reproduced"),
        ((-3.0, -1.0, -0.1), (-2.0, -0.5, 0.1), "not reached"),
        ((-3.0, -2.0, -1.8), (-2.0, -1.0, -0.1), "beaten"),
    ],
)
def test_the_verdict(changes: tuple[float, ...], most: tuple[float, ...], verdict: str) -> None:
    ours = {yao.CHANGE[bits]: [9.0, change, -9.0] for bits, change in zip(yao.BITS, changes, strict=True)}
    ours |= {yao.MOST[bits]: [9.0, end, -9.0] for bits, end in zip(yao.BITS, most, strict=True)}
    assert yao.judge(ours) == verdict
