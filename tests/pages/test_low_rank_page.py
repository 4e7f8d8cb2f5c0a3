"""Low rank's page in each form: what the picture, the words and the table say is what the step did."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from visiting import Visit

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures.latency import factored
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import apply
from engine.tensor import cp, splits, tucker
from pages.parts import jobs
from pages.parts.pictures import surface

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def charts(visit: Visit) -> str:
    return "".join(chart.proto.spec for chart in visit.at.get("plotly_chart"))


def kinds(visit: Visit) -> set[str]:
    """The types of what the charts draw."""
    specs = [json.loads(chart.proto.spec)["data"] for chart in visit.at.get("plotly_chart")]
    return {trace["type"] for traces in specs for trace in traces}


def test_tucker_s_page_has_the_surface_of_the_layer_and_says_its_ranks() -> None:
    settings = {"form": "tucker", "by": "share", "share": 0.6}
    visit = Visit("low_rank", m="lenet-5-small", r=json.dumps([["low_rank", settings]]))
    assert "heatmap" in kinds(visit)
    step = technique.step("low_rank", **settings)
    table = apply(zoo.load("lenet-5-small"), step, None)[1].tables["layers"].set_index("layer")
    assert "of inputs" in visit.html
    assert f"{table.loc['conv1', 'weights_after']:,} weights, conv1 has 100" in visit.html
    assert "Above the break-even line three layers are bigger than one" in visit.html
    visit.edit("low_rank", form="channel")
    assert "heatmap" not in kinds(visit)
    assert "Above rank 3.4, mn / (m + n)" in visit.html


def test_for_the_outputs_pieces_are_those_of_the_outputs() -> None:
    visit = Visit("low_rank", m="mlp-32", r='[["low_rank",{"error":"outputs","energy":0.9}]]')
    assert "root mean square of the outputs" in charts(visit)
    assert "of the sum of squared outputs" in visit.html
    assert "for the outputs" in visit.html
    visit.edit("low_rank", by="budget", budget=0.3)
    assert "the budget leaves it whole" in visit.html


def test_the_surface_is_that_of_the_decomposition_and_its_point_is_where_the_ranks_are() -> None:
    weight = zoo.load("resnet-8").params["layer3.0.conv2.weight"].decode()
    split = splits.Triple(tucker.decompose(weight))
    cells, even = surface.drawn(split)["data"]
    assert cells["z"][20][30] == pytest.approx(split.error((21, 31)), abs=1e-4)
    assert cells["customdata"][20][30] == split.weights((21, 31))
    for x, y in zip(even["x"], even["y"], strict=True):
        assert y * 64 + 9 * x * y + 64 * x == pytest.approx(36_864)
    small, large = (surface.mark(split, ranks, "layer3.0.conv2") for ranks in ((21, 31), (60, 62)))
    assert (small["x"], small["y"]) == (31, 21)
    assert large["text"] == "ranks 60 and 62: no smaller, not split"
    said = surface.said(split, (21, 31))
    assert "64 x 31 + 31 x 21 x 3 x 3 + 21 x 64 = 9,187, 24.9% of it" in said


def test_with_other_images_the_page_is_drawn_again() -> None:
    """The spectrum and the pieces stay while other sliders move: they are those of these images."""
    knobs = technique.get("low_rank").knobs
    assert [name for name, knob in knobs.items() if knob.redraws] == ["samples"]
    visit = Visit("low_rank", m="mlp-32", r='[["low_rank",{"error":"outputs"}]]')
    before = charts(visit)
    visit.edit("low_rank", samples=100)
    assert charts(visit) != before
    again = Visit("low_rank", m="mlp-32", r='[["low_rank",{"error":"outputs","samples":100}]]')
    assert spectrum(visit) == spectrum(again)


def spectrum(visit: Visit) -> object:
    specs = [json.loads(chart.proto.spec) for chart in visit.at.get("plotly_chart")]
    return next(spec["data"] for spec in specs if "root mean square" in json.dumps(spec["layout"]["yaxis"]))


def test_by_sensitivity_it_shows_what_each_rank_loses_alone_and_all_together() -> None:
    visit = Visit("low_rank", m="mlp-32", r='[["low_rank",{"by":"sensitivity","budget":0.4}]]')
    assert "What fc1 loses alone, at the ranks that were tried" in visit.html
    assert "The same budget dealt out by energy:" in visit.html
    assert "mean of 100 validation samples" in visit.html
    visit.edit("low_rank", by="energy")
    assert "loses alone" not in visit.html


def test_layers_that_are_not_faster_can_be_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(calls: Sequence[Callable[[], object]], repeats: int) -> Tensor:
        known = torch.tensor([2.0, 1.0] + [1.0, 3.0] * (len(calls) // 2 - 1), dtype=torch.float64)
        return known.repeat(repeats, 1) * 1e6

    monkeypatch.setattr(factored.stopwatch, "timed", timed)
    visit = Visit("low_rank", m="lenet-5-small", r='[["low_rank",{"by":"rank","rank":2}]]')
    visit.open_fold("rank-latency")
    assert "times fewer MACs" not in visit.html
    visit.set("toggle", "time-ranks", True)
    assert "1 of 4 splits pay in time." in visit.html
    assert "2.00x" in visit.html
    visit.click("spare-slow")
    assert visit.panel("low_rank")["settings"]["leave_out"] == ["conv2", "fc1", "fc2"]
    assert "1 of 1 splits pay in time." in visit.html


def test_cp_is_shown_beside_the_other_forms_for_kernels_alone() -> None:
    visit = Visit("low_rank", m="lenet-5-small", r="[]").open_fold("cp")
    weight = zoo.load("lenet-5-small").params["conv1.weight"].decode()
    rows = cp.beside(weight, cp.at_shares(weight))
    assert f"{100 * rows.loc[1, 'cp']:.2f} %" in visit.html
    assert "the pieces are" in visit.html
    visit.set("selectbox", "layer-low_rank-lenet-5-small|mnist", "fc1")
    assert "Worked out for convolutions with kernels" in visit.html
