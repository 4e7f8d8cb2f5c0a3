"""One layer in every design: counted is the formula, and the sentence follows from the times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from engine.figures import compact
from engine.figures.compact import STANDARD
from engine.figures.latency import designs
from engine.net import zoo
from engine.tensor.compact import Design, macs, weights


@pytest.fixture(scope="module")
def layer() -> compact.Layer:
    return compact.layers(zoo.load("resnet-8"))["layer2.0.conv1"]


def test_the_layers_of_a_net_are_those_that_can_be_replaced() -> None:
    assert list(compact.layers(zoo.load("lenet-5-small"))) == ["conv2"]
    assert compact.layers(zoo.load("mlp-32")) == {}


def test_counted_is_what_the_formulas_say(layer: compact.Layer) -> None:
    """16 channels of 32 x 32 places become 32 of 16 x 16; an inverted bottleneck widens before it strides."""
    rows = compact.costs(layer, compact.designs(4, 2))
    assert [row.why for row in rows] == [""] * 5
    for row in rows:
        assert row.weights
        assert row.macs
        assert row.weights.value == sum(weights(row.design, 16, 32, 9))
        assert row.macs.value == sum(macs(row.design, 16, 32, 9, 1024, 256))
    assert rows[0].intensity is not None
    moved = 16 * 1024 + 32 * 256 + 4608
    assert rows[0].intensity.value == pytest.approx(4608 * 256 / moved)
    separable = rows[1]
    assert separable.intensity is not None
    moved = 16 * 1024 + 16 * 256 + 144 + 16 * 256 + 32 * 256 + 512
    assert separable.intensity.value == pytest.approx(656 * 256 / moved)


def test_what_does_not_divide_says_why(layer: compact.Layer) -> None:
    grouped = compact.costs(layer, compact.designs(3, 2))[2]
    assert grouped.why == "its 16 inputs are no multiple of 3"
    assert grouped.weights is None


def test_an_output_reaches_all_inputs_behind_a_shuffle(layer: compact.Layer) -> None:
    told = {
        name: [int(f.value) for f in compact.reach(layer, Design(name, 4, 2))]
        for name in ("standard", "separable", "grouped", "shuffled", "inverted")
    }
    assert told == {
        "standard": [16, 16, 16],
        "separable": [1, 16, 16],
        "grouped": [4, 4, 4],
        "shuffled": [4, 16, 16],
        "inverted": [16, 16, 16],
    }


def slower_by(factors: Sequence[float]) -> Callable[..., Tensor]:
    """A stopwatch that runs each call once, and has its own times: in ns, all rounds alike."""

    def timed(calls: Sequence[Callable[[], object]], repeats: int) -> Tensor:
        for call in calls:
            call()
        return torch.tensor(factors, dtype=torch.float64).repeat(repeats, 1) * 1e6

    return timed


def test_the_sentence_follows_from_the_times(layer: compact.Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = compact.costs(layer, compact.designs(4, 2))
    assert designs.why_short(rows) == ""
    monkeypatch.setattr(designs.stopwatch, "timed", slower_by([8.0, 4.0, 4.0, 4.0, 8.0]))
    timed = designs.timed(layer, rows)
    assert [row.time.value for row in timed if row.time] == [8.0, 4.0, 4.0, 4.0, 8.0]
    assert [row.speed_up.value for row in timed if row.speed_up] == [2.0, 2.0, 2.0, 1.0]
    said = designs.why_short(timed)
    assert said.startswith("Depthwise separable does 7.0 times fewer multiply-adds and is 2.00 times as fast")
    monkeypatch.setattr(designs.stopwatch, "timed", slower_by([2.0, 4.0, 1.0, 1.0, 1.0]))
    assert "takes 2.00 times the time" in designs.why_short(designs.timed(layer, rows))
    monkeypatch.setattr(designs.stopwatch, "timed", slower_by([100.0, 1.0, 1.0, 1.0, 1.0]))
    assert "no design falls short" in designs.why_short(designs.timed(layer, rows))


def test_a_design_that_is_not_possible_is_not_timed(
    layer: compact.Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(designs.stopwatch, "timed", slower_by([2.0, 1.0, 1.0]))
    timed = designs.timed(layer, compact.costs(layer, compact.designs(3, 2)))
    assert [row.design.name for row in timed if row.time] == ["standard", "separable", "inverted"]
    assert timed[0].design == STANDARD
    assert timed[0].speed_up is None
