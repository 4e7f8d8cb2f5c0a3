"""The curve in real Chromium: its point moves with the slider, and a click on a point moves the slider."""

from __future__ import annotations

import pytest
from browsing import MODEL, Tab

pytestmark = pytest.mark.browser

SLIDER = "prune_weights-sparsity"
POINT = "() => (window.slimscopeStage.marks['size-curve'] ?? []).findLast(mark => !mark.hollow)"
WORDS = "() => window.slimscopeCurve?.words?.textContent ?? ''"
# Where the curve's point with this value of the setting is in the window.
PLACE = """value => {
    const plot = document.querySelector('.st-key-size-curve .js-plotly-plot')
    const { _size, xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect()
    const left = x => box.left + _size.l + xaxis.l2p(xaxis.d2l(x))
    const top = y => box.top + _size.t + yaxis.l2p(y)
    for (const { customdata, x, y } of plot.data)
        for (const [i, one] of [...(customdata ?? [])].entries())
            if (one === value) return [left(x[i]), top(y[i])]
}"""
VALUES = """name => document.querySelector('.st-key-size-curve .js-plotly-plot').data
    .filter(trace => trace.customdata && (!name || trace.name === name))
    .flatMap(trace => [...trace.customdata])"""
# What the chart shows in the turn of the event loop after the slider was moved.
MOVED = """value => {
    const panel = window.slimscopePanels.prune_weights
    panel.change({ sparsity: value })
    return (window.slimscopeStage.marks['size-curve'] ?? []).findLast(mark => !mark.hollow)
}"""


def opened(one: Tab) -> Tab:
    one.open("prune", MODEL, "[]")
    one.page.wait_for_selector(".st-key-size-curve svg.marks circle", state="attached")
    one.key("size-curve").scroll_into_view_if_needed()
    return one


def test_the_point_moves_with_the_slider_at_once_and_is_exact_when_it_rests(tab: Tab) -> None:
    opened(tab)
    before = tab.page.evaluate(POINT)
    assert not before["text"].startswith("≈")  # stored
    moved = tab.page.evaluate(MOVED, 0.8)
    assert moved["x"] > before["x"]
    tab.page.evaluate(MOVED, 0.905)
    assert tab.page.evaluate(POINT)["text"].startswith("≈")
    assert tab.page.evaluate(WORDS).startswith("Sparsity 90.5 %: ≈ ")
    tab.until(lambda: "test accuracy" in tab.page.evaluate(WORDS) and "≈" not in tab.page.evaluate(WORDS))
    tab.heard()
    said = tab.page.locator(".st-key-size-curve [role=figure]").get_attribute("aria-label")
    assert "Sparsity 90.5 %" in said
    file = float(tab.tiles["file size"])
    assert tab.page.evaluate(POINT)["x"] == file
    assert tab.page.locator(".st-key-size-curve svg.marks circle[fill=none]").count() >= 1  # where it was


def test_a_click_on_a_point_moves_the_slider_as_an_edit_of_its_panel(tab: Tab) -> None:
    opened(tab)
    value = tab.page.evaluate(VALUES, "less accurate")[2]
    left, top = tab.page.evaluate(PLACE, value)
    tab.page.mouse.move(left, top)
    tab.page.wait_for_timeout(200)
    tab.page.mouse.click(left, top)
    heard = "() => window.slimscopePanels.prune_weights.data.settings.sparsity"
    tab.until(lambda: tab.page.evaluate(heard) == value)  # the server says so
    tab.heard()
    slider = tab.control(SLIDER).locator("[type=range]")
    assert slider.get_attribute("aria-valuetext") == f"{100 * value:g} %"
    assert f"Sparsity {100 * value:g} %" in tab.page.evaluate(WORDS)


def test_another_setting_has_another_curve_which_is_worked_out(tab: Tab) -> None:
    tab.open("prune", "mlp-32", '[["prune_weights",{"sparsity":0.7}]]')
    tab.page.wait_for_selector(".st-key-size-curve svg.marks circle", state="attached")
    tab.page.evaluate("() => window.slimscopePanels.prune_weights.change({ allocation: 'layer' })")
    assert "a curve of their own" in tab.page.evaluate(WORDS)
    assert tab.page.locator(".st-key-size-curve svg.marks circle").count() == 0
    tab.until(lambda: "n = 5,000" in tab.page.evaluate(WORDS))
    tab.until(lambda: tab.page.evaluate("() => !window.slimscopeCurve.data.left"))
    tab.until(lambda: len(tab.page.evaluate(VALUES)) >= 24)
