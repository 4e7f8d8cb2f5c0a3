"""The guided story in real Chromium: keys turn its pages, nothing overflows, a link restores the place."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browsing import STILL, Tab, visitor
from test_first_screen import SIDEWAYS, barriers

from pages.parts.story.place import CHAPTERS

pytestmark = pytest.mark.browser
BELOW = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    return main.scrollHeight - main.clientHeight
}"""
CUT = """() => [...document.querySelectorAll('.st-key-presented :is(h3, p, td, th, figcaption)')]
    .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"""


def place(tab: Tab) -> tuple[str, bool]:
    """Chapter and presentation, as the link says them."""
    query = parse_qs(urlsplit(tab.page.url).query)
    return query.get("s", [CHAPTERS[0]])[0], query.get("p") == ["1"]


def stands(tab: Tab, chapter: str, presented: bool) -> None:
    tab.until(lambda: place(tab) == (chapter, presented))
    tab.page.wait_for_selector(STILL, state="attached")


def test_arrow_keys_tell_the_story_in_presentation_mode_and_a_link_restores_it(
    tab: Tab, browser: Any
) -> None:
    tab.open("overview")
    press = tab.page.keyboard.press
    tab.key("present").locator("button:visible").first.click()
    stands(tab, "look", True)
    tab.page.wait_for_selector(".st-key-presented .waterfall")
    assert not tab.page.locator("[data-testid=stSidebar]").is_visible()
    for key, chapter in (
        ("ArrowRight", "prune"),
        ("PageDown", "guess"),
        ("PageUp", "prune"),
        ("ArrowRight", "guess"),
    ):
        press(key)
        stands(tab, chapter, True)
        assert_fits(tab)
    press("ArrowRight")  # the answer
    tab.page.wait_for_selector("text=You guessed")
    assert_fits(tab)
    for _ in range(4):  # fine-tuning, its answer, quantization, the file: none of the keys is lost
        press("ArrowRight")
    stands(tab, "file", True)
    tab.page.wait_for_selector(".squares")
    assert_fits(tab)
    assert tab.page.locator(".waterfall [data-step]").count() == 5
    heard = tab.page.evaluate("window.slimscopeStory.said.textContent")
    assert "Chapter 6 of 7" in heard
    other = visitor(browser, tab.url)
    other.page.goto(tab.page.url)
    other.page.wait_for_selector(".st-key-presented .squares")
    assert place(other) == ("file", True)
    other.page.wait_for_function("() => window.slimscopeStory?.said")  # keys are heard from now on
    other.page.keyboard.press("Escape")
    stands(other, "file", False)
    assert float(other.drawn().tiles["accuracy"]) > 0.9
    other.assert_well()
    other.page.context.close()
    press("ArrowRight")
    stands(tab, "record", True)
    assert_fits(tab)
    assert tab.page.locator(".waterfall [data-step]").count() > 5


def assert_fits(tab: Tab) -> None:
    """All of a chapter is in a large window; on a phone it is as wide as the window."""
    tab.page.set_viewport_size({"width": 390, "height": 844})
    tab.page.wait_for_timeout(400)
    assert tab.page.evaluate(SIDEWAYS) <= 0
    assert tab.page.evaluate(CUT) == []
    tab.page.set_viewport_size({"width": 1440, "height": 900})
    tab.page.wait_for_timeout(400)
    assert (tab.page.evaluate(SIDEWAYS), tab.page.evaluate(BELOW)) == (0, 0)
    assert tab.page.evaluate(CUT) == []


def test_keys_of_a_slider_stay_its_own_and_nothing_bars_anyone(tab: Tab) -> None:
    tab.page.goto(f"{tab.url}/?s=guess")
    tab.drawn()
    slider = tab.key("guess-guess").locator("input[type=range]").first
    before = slider.input_value()
    slider.focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.until(lambda: slider.input_value() != before)
    stands(tab, "guess", False)
    assert tab.page.locator("text=You guessed").count() == 0
    tab.key("story-next").locator("button:visible").first.click()
    tab.page.wait_for_selector("text=You guessed 95 %")
    tab.page.keyboard.press("ArrowLeft")  # now the key is the story's
    stands(tab, "prune", False)
    for presented in (False, True):
        for scheme in ("light", "dark"):
            tab.page.emulate_media(color_scheme=scheme)
            tab.page.wait_for_timeout(500)
            assert barriers(tab) == []
        if not presented:
            tab.key("present").locator("button:visible").first.click()
            stands(tab, "prune", True)
