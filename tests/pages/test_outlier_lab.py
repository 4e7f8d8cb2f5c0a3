"""The outlier lab on its page: a slider that moves one weight, and a recipe that does not notice."""

from __future__ import annotations

import re

import pytest
from visiting import Visit

from engine.net import zoo
from engine.tensor import outlier
from pages.parts import jobs

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured on the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def test_dragging_one_weight_out_costs_the_others_and_changes_nothing_else() -> None:
    visit = Visit("quantize", m="mlp-32", r='[["quantize",{"bits":4}]]').open_fold("outlier")
    before, recipe = visit.tiles, visit.view.key
    assert "Drag the largest weight out" in visit.html
    visit.at.select_slider(key="outlier-times").set_value(16.0)
    visit.run()
    assert (visit.tiles, visit.view.key) == (before, recipe)
    weight = zoo.load("mlp-32").params["fc1.weight"].decode()
    truth = outlier.costs(weight, [1.0, 16.0], 4, True, 64)
    lost = [truth["sqnr_db"][i] - truth["sqnr_db"][i + 3] for i in (0, 2)]
    said = re.search(r"they lose ([\d.]+) dB, with one scale per group ([\d.]+) dB", visit.html)
    assert said is not None
    assert [float(each) for each in said.groups()] == pytest.approx(lost, abs=0.051)
    assert "neither the recipe nor any figure above changes" in visit.html
