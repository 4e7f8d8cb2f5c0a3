"""A user's model of 11 million weights in a real browser: a slider moves, jobs fill the tiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, serving

from engine.data import user
from pages.parts import menu

SETTLED = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"
VALUES = """() => Object.fromEntries([...document.querySelectorAll('.st-key-tiles [data-tile]')].map(
  tile => [tile.dataset.tile, tile.getAttribute('aria-busy') === 'false' && tile.dataset.value || null]))"""
LIMIT = 600_000  # milliseconds: a machine may be slow, and jobs come after all else


@pytest.fixture
def page(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Prune, on a server that was started with the model."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(user.VARIABLE, "")
    user.name("bench.resnet:model", "bench.resnet:data")
    with serving(tmp_path) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(LIMIT)
        page.goto(f'{server.url}/prune?r=[["prune_weights",{{"sparsity":0.5}}]]')
        yield page
        context.close()
        assert "Traceback" not in server.log.read_text()


def test_a_moved_slider_ends_in_measured_tiles_and_pages_open(page: Any) -> None:
    page.wait_for_selector(".st-key-tiles [aria-busy=true]")
    page.wait_for_selector(SETTLED)
    slider = page.locator("[data-control=prune_weights-sparsity] input[type=range]")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => !location.search.includes('0.5}') && location.search.includes('sparsity')")
    found = page.wait_for_function(
        f"() => {{ const all = ({VALUES})(); return Object.values(all).filter(Boolean).length === 4 && all }}"
    )
    values = found.json_value()
    assert set(values) == {"Accuracy", "Compressed file", "Zero weights", "Parameters"}
    asked = page.locator("[data-control=prune_weights-sparsity] .exact").input_value()
    assert float(values["Zero weights"]) == pytest.approx(float(asked.removesuffix(" %")) / 100, abs=1e-4)
    assert float(values["Parameters"]) == 11_173_962
    for number in range(0, len(menu.of_files()), 4):  # test_large_model opens all
        link = page.locator("[data-testid=stSidebarNavLink]").nth(number)
        link.click()
        page.wait_for_function("link => link.pathname === location.pathname", arg=link.element_handle())
        page.wait_for_selector(SETTLED)
        assert page.locator("[data-testid=stException]").count() == 0
