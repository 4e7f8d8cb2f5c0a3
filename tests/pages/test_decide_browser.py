"""Decide in Chromium: a budget, a click that pins, the recipe that is taken, the report as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import SMALL, Tab

from engine.jobs import fronts
from engine.net import zoo
from engine.recipe import front
from pages.parts.decide import points

pytestmark = pytest.mark.browser

# Of a technique's points the one that is farthest from all others, where it is in the window, and its bytes.
PLACE = """key => { const plot = document.querySelector('.st-key-decide-plot .js-plotly-plot')
const {xaxis, yaxis, _size} = plot._fullLayout, box = plot.getBoundingClientRect()
const placed = plot.data.flatMap(t => [...t.x ?? []].map((x, i) => (
  {name: t.name, x, left: xaxis.d2p(x), top: yaxis.d2p(t.y[i])})))
const apart = (a, b) => Math.hypot(a.left - b.left, a.top - b.top)
const alone = a => Math.min(...placed.map(b => apart(a, b)).filter(d => d > 0))
const inside = a => a.left > 0 && a.left < _size.w && a.top > 0 && a.top < _size.h
const own = placed.filter(a => a.name === key && inside(a)).sort((a, b) => alone(b) - alone(a))
return [box.left + _size.l + own[0].left, box.top + _size.t + own[0].top, own[0].x] }"""


def advised(budget: front.Budget) -> front.Advice:
    found = front.recommended(fronts.points(fronts.courses(SMALL, zoo.entry(SMALL).data)), budget)
    assert found is not None
    return found


def main(tab: Tab) -> str:
    return str(tab.page.inner_text("[data-testid=stMain]"))


def test_a_budget_is_answered_a_point_is_pinned_and_a_recipe_is_taken(tab: Tab) -> None:
    tab.open("tradeoffs", SMALL, "[]")
    tab.page.wait_for_selector(".st-key-decide-plot .js-plotly-plot .points path")
    best = advised(front.Budget("lost", 0.01)).best
    assert f"{points.label(best['recipe'])}: {points.size(best)}" in main(tab)

    box = tab.key("budget-lost").locator("input")
    box.fill("0.1")
    box.press("Enter")
    strict = advised(front.Budget("lost", 0.001)).best
    tab.until(lambda: f"{points.label(strict['recipe'])}: {points.size(strict)}" in main(tab))

    tab.drawn()  # the answer above the plot has its height
    x, y, size = tab.page.evaluate(PLACE, "Prune weights")
    tab.page.mouse.move(x, y)
    tab.page.mouse.click(x, y)
    table = tab.page.locator("[data-table=compare] tr")
    tab.until(lambda: table.count() == 2)
    assert points.size({"bytes": size}) in table.nth(1).inner_text()

    tab.key("take-recommended").locator("button").click()
    tab.until(lambda: "This is my recipe" in main(tab))
    assert [name for name, _ in tab.drawn().kept] == [strict["technique"]]
    assert float(tab.tiles["file size"]) == strict["bytes"]
    tab.assert_well()


def test_the_report_is_one_file_that_opens_without_a_network(tab: Tab, browser: Any, tmp_path: Path) -> None:
    tab.open("tradeoffs", SMALL, "[]")
    with tab.page.expect_download() as download:
        tab.key("get-report").locator("button").first.click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    assert path.stat().st_size < 500_000
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    best = advised(front.Budget("lost", 0.01)).best
    assert points.size(best) in page.inner_text(".answer")
    assert page.locator("svg circle").count() > 20
    assert page.title().startswith("Compressing")
    assert asked == [path.as_uri()]
    page.close()
    tab.assert_well()
