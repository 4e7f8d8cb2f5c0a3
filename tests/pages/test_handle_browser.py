"""Handles on charts, dragged in real Chromium: they are the panel's own settings."""

from __future__ import annotations

import pytest
from browsing import SMALL, Tab

pytestmark = pytest.mark.browser


def drag(tab: Tab, chart: str, right: float) -> None:
    """Take hold of a chart's handle and pull it so many pixels to the right."""
    knob = tab.page.locator(f".st-key-{chart} svg.handle path")
    tab.until(lambda: knob.count() == 1)
    knob.scroll_into_view_if_needed()
    box = knob.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + right, y, steps=5)
    tab.page.mouse.up()


def test_the_cut_through_the_sorted_weights_is_the_slider(tab: Tab) -> None:
    tab.open("prune", SMALL, '[["prune_weights",{"sparsity":0.5}]]')
    drag(tab, "sorted", 60)
    tab.until(lambda: tab.recipe[0][1].get("sparsity", 0.5) > 0.55)
    tab.drawn()
    removed = tab.page.evaluate("() => window.slimscopeStage.marks.sorted[0].to")
    said = tab.page.locator(".st-key-sorted [role=figure]").get_attribute("aria-label")
    assert f"{100 * removed:.2f} % are not above" in said
    assert f"the {100 * removed:.2f} % of fc1 that go" in tab.page.inner_text(".lesson .aha")


def test_a_clip_that_is_dragged_becomes_the_nearest_percentile(tab: Tab) -> None:
    tab.open("quantize", SMALL, '[["quantize",{"bits":3,"granularity":"tensor"}]]')
    drag(tab, "clip", -120)
    tab.until(lambda: tab.recipe[0][1].get("range") == "percentile")
    tab.drawn()
    percentile = tab.recipe[0][1].get("percentile", 99.9)
    assert 95 <= percentile < 100
    assert percentile == pytest.approx(round(20 * percentile) / 20)
    clip = tab.page.evaluate("() => window.slimscopeStage.marks.clip.find(mark => mark.kind === 'handle').at")
    assert 0.2 < clip < 0.95
    assert f"clip at {100 * clip:.0f}%" in tab.page.locator(".st-key-clip [role=figure]").get_attribute(
        "aria-label"
    )


def test_the_point_on_tucker_s_surface_becomes_the_layer_s_own_ranks(tab: Tab) -> None:
    tab.open("low_rank", "lenet-5-small", '[["low_rank",{"form":"tucker","by":"share","share":0.3}]]')
    point = tab.page.locator(".st-key-surface svg.point circle")
    tab.until(lambda: point.count() == 1)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x, y - 90, steps=5)
    tab.page.mouse.up()
    tab.until(lambda: "conv1" in tab.recipe[0][1].get("per_layer", {}))
    tab.drawn()
    settings = tab.recipe[0][1]
    outputs = settings["per_layer"]["conv1"]
    assert 2 <= outputs <= 4
    assert settings["input_ranks"] == {"conv1": 1}
    said = tab.page.locator(".st-key-surface [role=figure]").get_attribute("aria-label")
    assert f"ranks {outputs} and 1: " in said
