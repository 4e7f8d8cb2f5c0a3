"""LSQ again: width by width on a few images, stopped and gone on with, and the verdict."""

from functools import partial
from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.papers import esser
from engine.types import Cancelled, Progress


@pytest.mark.usefixtures("few")
def test_a_run_goes_down_the_widths_and_resumes_exactly(tmp_path: Path) -> None:
    short = {**esser.RECIPE["quantize_aware"], "epochs": 1}
    taught = {**esser.RECIPE["distill_quantized"], "alpha": 1.0}
    recipe = {**esser.RECIPE, "quantize_aware": short, "finetune": {"epochs": 1}, "distill_quantized": taught}
    run = partial(esser.run, recipe, "lenet-5-small", 1)
    shares: list[float] = []
    outcome = run(Progress(lambda share, _: shares.append(share)), tmp_path / "whole")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    seen: list[float] = []
    broken = Progress(lambda share, _: seen.append(share), lambda: len(seen) > 10)
    with pytest.raises(Cancelled):
        run(broken, tmp_path / "broken")
    assert seen[-1] < 1
    again = run(Progress(), tmp_path / "broken")
    assert again.figures == outcome.figures
    for bits in esser.BITS:
        layers = outcome.tables[f"layers at {bits} bits"]
        assert layers["bits"].tolist() == layers["input_bits"].tolist() == [8, bits, bits, 8]
        figures = outcome.figures
        change = figures[esser.ERROR[bits]] - figures[esser.FLOATS[bits]]
        assert figures[esser.CHANGE[bits]] == pytest.approx(change)
    assert outcome.figures["bytes at 2 bits"] < outcome.figures["bytes at 4 bits"]
    assert figures[esser.GAIN] == pytest.approx(figures[esser.ERROR[2]] - figures[esser.TAUGHT])
    assert figures[esser.TAUGHT] != figures[esser.ERROR[2]]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((0.3, 0.8, 3.0), "reproduced"),
        ((0.31, 0.0, 0.0), "not reached"),
        ((0.0, 0.81, 0.0), "not reached"),
        ((-0.6, 0.3, 2.9), "beaten"),
        ((-0.5, 0.3, 2.9), "reproduced"),
    ],
)
def test_the_verdict(changes: tuple[float, ...], verdict: str) -> None:
    pairs = zip(esser.BITS, changes, strict=True)
    assert (
        esser.judge(esser.BITS, {esser.CHANGE[bits]: [9.0, change, -9.0] for bits, change in pairs})
        == verdict
    )
