"""An entry of shared weights is dragged in real Chromium: what follows it, and what the recipe says."""

from __future__ import annotations

import pytest
from browsing import SMALL, Tab

pytestmark = pytest.mark.browser
GRIP = "svg.handles .grip"


def levels(tab: Tab) -> list[float]:
    found: list[float] = tab.page.evaluate("() => window.slimscopeStage.marks.values[0].at")
    return found


def test_a_dragged_entry_moves_at_once_and_its_figures_follow(tab: Tab) -> None:
    tab.open("share", SMALL, '[["share_weights",{"entries":4}]]')
    tab.until(lambda: tab.page.locator(GRIP).count() == 1)
    before, accuracy = levels(tab), float(tab.tiles["accuracy"])
    tab.page.locator(GRIP).scroll_into_view_if_needed()
    box = tab.page.locator(GRIP).bounding_box()
    assert box is not None
    axis = tab.page.evaluate(
        "() => document.querySelector('.st-key-values .js-plotly-plot')._fullLayout.xaxis.range"
    )
    place = box["x"] + box["width"] * (before[3] - axis[0]) / (axis[1] - axis[0])
    high = box["y"] + box["height"] / 2
    tab.page.mouse.move(place, high)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 0.98 * box["width"], high, steps=6)
    held = levels(tab)
    assert held[:3] == before[:3]
    assert held[3] > before[3]
    tab.until(lambda: tab.page.locator("[data-tile] [aria-busy=true], .pending").count() > 0)
    tab.page.mouse.up()
    tab.until(lambda: bool(tab.recipe[-1][1].get("by_hand")))
    tab.drawn()
    assert tab.recipe[-1][1]["by_hand"] == {"fc1": {"3": held[3]}}
    assert levels(tab) == pytest.approx(held)
    assert float(tab.tiles["accuracy"]) != accuracy
    tab.page.get_by_role("button", name="Undo").or_(tab.key("undo").locator("button")).first.click()
    tab.until(lambda: levels(tab) == before)
