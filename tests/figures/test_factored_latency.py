"""Split layers timed beside the layers before: counted ratios, and verdicts that follow from the times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures.latency import factored
from engine.net import zoo
from engine.recipe.run import apply
from engine.recipe.technique import step


def stopwatch(factors: Sequence[float]) -> Callable[..., Tensor]:
    """One that runs each call once, and has its own times: in ms, all rounds alike."""

    def timed(calls: Sequence[Callable[[], object]], repeats: int) -> Tensor:
        for call in calls:
            call()
        return torch.tensor(factors, dtype=torch.float64).repeat(repeats, 1) * 1e6

    return timed


def test_a_split_pays_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """conv2 of lenet-5-small: 8 x 4 kernels of 5 x 5 at 8 x 8 places, fc1: 32 x 128."""
    before = zoo.load("lenet-5-small")
    after, _ = apply(before, step("low_rank", by="rank", rank=2, form="tucker"), None)
    monkeypatch.setattr(factored.stopwatch, "timed", stopwatch([3.0, 2.0, 1.0, 1.0]))
    conv, fc = factored.timed(before, after, ["conv2", "fc1"])
    assert (conv.calls, fc.calls) == (3, 2)
    # 1x1 at 12 x 12 places to 2 channels, 5 x 5 between 2 and 2, and 1x1 to 8 channels
    thin = 4 * 2 * 144 + 2 * 2 * 25 * 64 + 2 * 8 * 64
    assert conv.fewer.value == pytest.approx(8 * 4 * 25 * 64 / thin)
    assert fc.fewer.value == pytest.approx(32 * 128 / (2 * 160))
    assert (conv.pays, fc.pays) == (True, False)
    assert conv.times.ratio.value == 1.5
    assert "this layer alone" in conv.times.now.how
