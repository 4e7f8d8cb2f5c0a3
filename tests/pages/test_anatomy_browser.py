"""The picture of the model in real Chromium: a click and the keyboard choose the layer that pages open on."""

from __future__ import annotations

import pytest
from browsing import MODEL, Tab

pytestmark = pytest.mark.browser


def chosen(one: Tab) -> list[str]:
    """Layers whose button is pressed."""
    pressed = one.page.locator(".anatomy .layer[aria-pressed=true]").all()
    return [str(each.get_attribute("aria-label")).partition(",")[0] for each in pressed]


def in_view(one: Tab) -> str:
    """The layer that the page's pictures show."""
    return str(one.key("chooser").locator("input").input_value())


def test_a_click_and_the_keyboard_choose_a_layer_for_every_page(tab: Tab) -> None:
    tab.open("overview", MODEL, "[]")
    tab.page.wait_for_selector(".anatomy .layer")
    assert chosen(tab) == ["fc1"]
    tab.page.locator(".anatomy .layer").nth(1).click()
    assert chosen(tab) == ["fc2"]
    tab.page.keyboard.press("ArrowRight")
    assert "fc3" in tab.page.locator(".anatomy .said").inner_text()
    tab.page.keyboard.press("Enter")
    assert chosen(tab) == ["fc3"]
    tab.drawn()
    tab.page.locator(".st-key-lead-on a", has_text="Prune").first.click()
    tab.page.wait_for_selector(".st-key-chooser")
    tab.drawn()
    tab.until(lambda: in_view(tab) == "fc3")
    assert chosen(tab) == ["fc3"]
    tab.page.locator(".anatomy .layer").first.click()
    tab.until(lambda: in_view(tab) == "fc1")
    tab.assert_well()
