"""The first screen of every technique's page, in real Chromium: what is on it, and who can use it."""

from __future__ import annotations

from itertools import combinations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import MODEL, Tab, move

import engine.techniques  # noqa: F401  (fills the registry)
from engine.recipe import technique
from pages.parts import menu

pytestmark = pytest.mark.browser

ENTRIES = menu.of_files()
TALL = "() => document.querySelector('[data-testid=stMain]').scrollHeight"
FITS = {
    "heads": "transformer-topics",
    "low_rank_rnn": "lstm-mnist",
    "compact": "resnet-8",
}  # what a page is for, where not for MODEL
BENCHES = [e for e in ENTRIES if e.technique and not technique.get(e.technique).trains]
PARTS = {
    "title": ".st-key-title",
    "recipe": ".st-key-strip",
    "tiles": ".st-key-tiles",
    "controls": ".st-key-workbench [class*=st-key-panel-]",
    "picture": ".st-key-workbench [data-testid=stColumn]:nth-child(1) :is(.js-plotly-plot, .heads)",
    "lesson": ".st-key-workbench .lesson",
    "curve": ".st-key-workbench [data-testid=stColumn]:nth-child(2) .js-plotly-plot",
}
STREAMLITS_MENU = "[data-testid=stSidebarNav]"  # its groups of links are lists of no items
BOXES = """parts => Object.fromEntries(Object.entries(parts).map(([name, selector]) => {
    const found = document.querySelector(selector)
    if (!found) return [name, null]
    const box = found.getBoundingClientRect()
    return [name, [box.left, box.top, box.right, box.bottom].map(Math.round)]
}))"""
OUTSIDE = """() => [...document.querySelectorAll('[data-testid=stMain] *')].filter(e => {
    const box = e.getBoundingClientRect()
    if (!box.width || !box.height || (box.right <= innerWidth + 1 && box.left >= -1)) return false
    for (let up = e; up; up = up.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX) && up.dataset.testid !== 'stMain')
            return false
    return !e.matches('input') && !e.closest('.js-plotly-plot, svg, canvas')
}).map(e => e.outerHTML.slice(0, 120))"""
CUT = """() => [...document.querySelectorAll('.tile .value, .tile .name span, button p')]
    .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"""
SIDEWAYS = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    return main.scrollWidth - main.clientWidth
}"""


@pytest.fixture
def screen(tab: Tab) -> Tab:
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    return tab


def boxes(tab: Tab) -> dict[str, list[int]]:
    return tab.page.evaluate(BOXES, PARTS)


def hold_all_and_stay(screen: Tab) -> None:
    """The first screen holds all parts, and nothing on it moves while the slider does."""
    screen.page.wait_for_selector(PARTS["curve"])
    screen.page.wait_for_timeout(1000)  # fonts and charts have found their size
    found = boxes(screen)
    assert [name for name, box in found.items() if box is None] == []
    assert {name: box for name, box in found.items() if box[3] > 800 or box[1] < 0} == {}
    assert overlapping(found) == []
    main = screen.page.locator(".st-key-workbench .control.main").first.get_attribute("data-control")
    for _ in range(2):
        move(screen, main, 1)
        assert boxes(screen) == found
        screen.page.wait_for_timeout(150)
    assert boxes(screen.drawn()) == found


def overlapping(found: dict[str, list[int]]) -> list[tuple[str, str]]:
    """Which of these boxes lie over another."""
    return [
        (one, other)
        for (one, a), (other, b) in combinations(found.items(), 2)
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1
    ]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_deep_link_opens_a_page_whose_first_screen_stays_that_fits_every_window_and_has_no_barrier(
    entry: menu.Entry, screen: Tab
) -> None:
    screen.page.set_viewport_size({"width": 800, "height": 900})
    model = FITS.get(entry.name, MODEL)
    screen.open(entry.name, model, None if model == MODEL else "[]")
    assert screen.page.locator("h2").first.inner_text() == entry.title
    assert float(screen.tiles["accuracy"]) > (0.9 if model == MODEL else 0.6)
    screen.page.wait_for_timeout(500)
    assert (screen.page.evaluate(OUTSIDE), screen.page.evaluate(CUT)) == ([], [])
    screen.until(lambda: screen.page.evaluate(SIDEWAYS) <= 0)  # charts follow
    screen.page.set_viewport_size({"width": 1280, "height": 800})
    screen.page.wait_for_timeout(500)
    for curve in screen.page.locator(".st-key-size-curve-now p").all():
        screen.until(curve.inner_text, bool)  # where the model is on it, also on the first page of a visit
    if entry in BENCHES:
        hold_all_and_stay(screen)
    assert screen.page.evaluate(TALL) <= 2200
    assert barriers(screen) == []
    screen.page.emulate_media(color_scheme="dark")
    screen.page.wait_for_timeout(500)  # the theme follows
    assert barriers(screen, runOnly=["color-contrast", "link-in-text-block"]) == []
    for width in (1440, 390):
        screen.page.set_viewport_size({"width": width, "height": 800})
        screen.until(lambda: screen.page.evaluate(SIDEWAYS) <= 0, lambda width=width: width)


def barriers(screen: Tab, **options: list[str]) -> list[tuple[str, str, str]]:
    """What axe-core finds serious, and where."""
    # Of what passed it is told nothing, which spares half of its time.
    asked = {"resultTypes": ["violations"], "preload": False, **options}
    found = Axe().run(screen.page, {"exclude": [[STREAMLITS_MENU]]}, asked).response["violations"]
    return [
        (each["id"], str(node["target"]), node.get("failureSummary", "")[:200])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


def test_a_phone_shows_the_slider_and_the_picture_together(screen: Tab) -> None:
    screen.page.set_viewport_size({"width": 390, "height": 844})
    screen.open("prune", MODEL)
    screen.page.wait_for_selector(PARTS["picture"])
    found = boxes(screen)
    assert max(found[name][3] for name in ("tiles", "controls", "picture")) <= 844
    more = screen.page.locator(".unfold").first
    assert not screen.control("prune_weights-allocation").is_visible()
    more.click()
    assert screen.control("prune_weights-allocation").is_visible()
