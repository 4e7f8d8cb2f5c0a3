"""Tucker's decomposition run again: what one seed finds, which times are taken, and the verdict."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures import count, latency
from engine.net import zoo
from engine.papers import kim_tucker as paper
from engine.types import Basis, Bundle, Figure, Progress, SlimscopeError


@pytest.mark.usefixtures("few")
def test_a_run_splits_mends_and_tunes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compared = list[Bundle]()

    def timed(before: Bundle, after: Bundle) -> pd.DataFrame:
        compared.extend((before, after))
        rows = [{"runtime": way, "batch": n, "times as fast": 2.5} for way, n in paper.SPEED]
        return pd.DataFrame(rows)

    monkeypatch.setattr(paper, "timed", timed)
    tune = {"epochs": 1, "learning_rate": 0.001, "teacher": "original"}
    split = {"form": "tucker", "by": "rank", "rank": 4, "leave_out": ["conv1", "fc1", "fc2"]}
    split |= {"per_layer": {"conv2": 3}, "input_ranks": {"conv2": 2}}
    recipe = {**paper.RECIPE, "net": "lenet-5-small", "low_rank": split, "finetune": tune}
    shares: list[float] = []
    outcome = paper.run(recipe, 2, Progress(lambda share, _: shares.append(share)), tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    figures, (before, after) = outcome.figures, compared
    assert {claim.name for claim in paper.TUCKER.claims} == set(figures)
    layers = outcome.tables["layers"].set_index("layer")
    assert layers.index[layers["applied"]].tolist() == ["conv2"]
    assert before.fingerprint == zoo.load("lenet-5-small").fingerprint
    assert figures[paper.FEWER] == count.macs(before).value / count.macs(after).value > 1
    assert [figures[name] for name in paper.SPEED.values()] == [2.5] * 4
    assert figures[paper.CHANGE] == pytest.approx(figures[paper.AFTER] - figures[paper.BEFORE])


def figure(value: float, spread: tuple[float, float]) -> Figure:
    return Figure("time", value, "ms", Basis.MEASURED, "by hand", spread)


def test_times_are_those_of_the_smaller_model_in_each_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(before: Bundle, after: Bundle, batch: int) -> tuple[latency.Row, ...]:
        def row(form: str, runtime: str, **own: Any) -> latency.Row:
            known = {"time": figure(batch, (0, 9)), "speed_up": figure(3.0, (2, 4)), "size": None, "why": ""}
            return latency.Row(form, runtime, **{**known, **own})

        here = latency.name_of(before, after)
        return (
            row(latency.ORIGINAL, "PyTorch", speed_up=None),
            row(here, "PyTorch"),
            row(latency.CSR, "PyTorch"),
            row(here, "ONNX Runtime", time=None, speed_up=None),
        )

    monkeypatch.setattr(latency, "latency", rows)
    bundle = zoo.load("mlp-32")
    found = paper.timed(bundle, bundle)
    assert found.to_dict("records") == [
        {"runtime": "PyTorch", "batch": batch, "ms": batch, "times as fast": 3.0, "low": 2, "high": 4}
        for batch in paper.BATCHES
    ]


@pytest.mark.parametrize(("runtime", "is_judged"), [("ONNX Runtime", True), ("PyTorch", False)])
def test_times_that_are_too_noisy_are_not_kept(
    runtime: str, is_judged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(before: Bundle, after: Bundle, batch: int) -> tuple[latency.Row, ...]:
        here = latency.name_of(before, after)
        return (latency.Row(here, runtime, figure(1, (1, 1)), figure(2.2, (1.9, 3.0)), None, ""),)

    monkeypatch.setattr(latency, "latency", rows)
    bundle = zoo.load("mlp-32")
    if is_judged:
        with pytest.raises(
            SlimscopeError, match=r"between 1\.90 and 3\.00, too noisy to tell; run this seed"
        ):
            paper.timed(bundle, bundle)
    else:
        assert len(paper.timed(bundle, bundle)) == len(paper.BATCHES)


@pytest.mark.parametrize(
    ("speed", "change", "verdict"),
    [(2.0, 1.0, "reproduced"), (1.99, 0.0, "not reached"), (3.0, 1.01, "not reached")],
)
def test_the_verdict(speed: float, change: float, verdict: str) -> None:
    one, many = paper.JUDGED
    ours = {one: [9.0] * 3, many: [0.0, speed, 9.0], paper.CHANGE: [9.0, change, -9.0]}
    assert paper.judge(ours) == verdict
    assert paper.judge({**ours, one: ours[many], many: ours[one]}) == verdict
