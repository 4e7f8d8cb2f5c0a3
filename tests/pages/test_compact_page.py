"""The page of compact designs without a browser: grids, counts and reach are those of the layer in view."""

from __future__ import annotations

import re

import pytest
import torch
from visiting import Visit

from engine.tensor.compact import Design, stages, weights
from pages.parts import jobs
from pages.parts.pictures import connections

pytestmark = pytest.mark.usefixtures("framed")
MODEL = "lenet-5-small"


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def cells(visit: Visit, title: str) -> list[list[str]]:
    """The rows of every table that begin with this."""
    rows = re.findall(rf'<tr class=""><td class="text">{re.escape(title)}</td>(.*?)</tr>', visit.html)
    return [re.findall(r"<td[^>]*>([^<]*)", row) for row in rows]


def test_it_counts_the_layer_in_view_in_every_design() -> None:
    """conv2 reads 4 channels of 12 x 12 places and makes 8 of 8 x 8 with kernels of 5 x 5."""
    visit = Visit("compact", m=MODEL)
    reach, costs = cells(visit, "Grouped")
    assert reach == ["1", "1", "1"]
    assert costs[0] == f"{sum(weights(Design('grouped', 4), 4, 8, 25)) + 8:,}"
    assert cells(visit, "Depthwise separable")[1][:3] == ["140", "8.45 kMAC", "6.06x"]
    assert visit.html.count(", part ") == 9
    visit.edit("replace_convs", **{**visit.panel("replace_convs")["settings"], "groups": 2})
    assert cells(visit, "Grouped + shuffle")[0] == ["2", "4", "4"]
    assert cells(visit, "Grouped")[0] == ["2", "2", "2"]


def test_time_is_measured_when_it_is_asked_for() -> None:
    visit = Visit("compact", m=MODEL)
    assert "time, measured" not in visit.html
    visit.set("toggle", "time-designs", True)
    assert "time, measured" in visit.html
    assert "median of 30 runs in turns" in visit.html
    values = cells(visit, "Standard")[1]
    assert [value for value in values if value.endswith(" ms")]
    assert " to " in values[-1]


def test_a_model_without_convolutions_shows_an_example_and_trains_nothing() -> None:
    visit = Visit("compact", m="mlp-32")
    assert "has no 2-D convolution to replace" in visit.words
    assert "an example of 16 channels" in visit.words
    assert visit.html.count(", part ") == 9
    assert [button for button in visit.at.button if button.key.startswith("run-")] == []


def test_it_opens_with_the_trained_defaults() -> None:
    visit = Visit("compact", m=MODEL)
    assert "too few channels to be taken apart" in visit.html
    assert "Convolutions replaced" in visit.html


def test_behind_a_shuffle_every_group_reads_all_colours() -> None:
    colours = torch.arange(16) // 4 + 1
    first, second = stages(Design("shuffled", 4), 16, 16)
    between = connections._of_outputs(first, colours)
    assert between.tolist() == colours.tolist()
    assert set(connections._of_outputs(second, between).tolist()) == {connections.ALL}
    again = stages(Design("grouped", 4), 16, 16)[0]
    assert connections._of_outputs(again, between).tolist() == colours.tolist()
