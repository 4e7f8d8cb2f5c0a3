"""The example of the README in real Chromium: a net of one's own, named at the start, on every page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import PATIENCE, Tab, move, newcomer, points, sweep
from conftest import Server, serving

from engine.data import user
from engine.figures import measure
from engine.file import packfile
from engine.net import sources
from engine.types import Bundle

CODE = "assets/examples/own_model.py"
NAMES = {"model": f"{CODE}:model", "data": f"{CODE}:data", "student": f"{CODE}:student"}
START = ("-m", "engine.cli", "app", *(f"--{name}={code}" for name, code in NAMES.items()), "--port={port}")
LEAST = 0.4  # right of ten classes: more than chance has, less than the example
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("own"), START) as running:
        yield running


@pytest.fixture
def tab(seat: Any, own_server: Server) -> Iterator[Tab]:
    with newcomer(seat, own_server.url) as one:
        yield one
    assert "Traceback" not in own_server.log.read_text()


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv(user.VARIABLE, "")
    user.name(**NAMES)
    return sources.load_user()


def accuracy(tab: Tab) -> float:
    return float(tab.drawn().tiles["accuracy"])


def test_the_example_is_explored_from_its_first_figure_to_its_file(
    tab: Tab, original: Bundle, tmp_path: Path
) -> None:
    model, test = f"user-{original.fingerprint}", sources.data(original.arch).test
    tab.page.goto(tab.url)
    tab.until(lambda: f"m={model}" in tab.page.url)
    before = accuracy(tab)
    assert before > LEAST

    # A slider on each page: its figures follow, and the accuracy is that of the net on the user's images.
    whole, left = sum(param.decode().numel() for param in original.params.values()), {}
    for page, key, recipe in (
        ("prune", "prune_weights-sparsity", '[["prune_weights",{"sparsity":0.6}]]'),
        ("filters", "prune_filters-removed", '[["prune_filters",{"removed":0.2}]]'),
        ("quantize", "quantize-bits", '[["quantize",{"bits":8,"granularity":"channel"}]]'),
        ("low_rank", "low_rank-energy", '[["low_rank",{"energy":0.95}]]'),
    ):
        first = tab.open(page, model, recipe).tiles
        move(tab, key, 2)
        tab.until(lambda first=first: tab.tiles != first)
        assert 0.1 < accuracy(tab) < 0.9
        left[page] = float(tab.tiles["parameters"])
        tab.assert_well()
    assert left["filters"] < whole

    # Training: the narrower copy learns from it.
    tab.open("distill", model, '[["distill",{"epochs":1,"subset":500,"control":false}]]')
    tab.key("run-distill").locator("button").click()
    tab.page.locator(".st-key-learned-distill").wait_for(timeout=3 * PATIENCE)
    assert float(tab.drawn().tiles["parameters"]) < 0.5 * whole
    tab.assert_well()

    # Trade-offs: recipes in a row, each with an accuracy.
    tab.open("tradeoffs", model, '[["prune_weights",{"sparsity":0.8}]]')
    sweep(tab, 3)
    tab.until(lambda: points(tab) >= 3)
    tab.until(lambda: tab.page.locator("button:has-text('Cancel')").count() == 0)
    assert "accuracy" in tab.page.inner_text("[data-testid=stMain]").lower()
    tab.assert_well()

    # What can be taken away: the file answers as the page says, the script is Python, and it was timed.
    tab.open("quantize", model, '[["prune_filters",{"removed":0.1}],["quantize",{"bits":6}]]')
    tab.page.get_by_role("tab", name="Ship it").click()
    packed = downloaded(tab, "Packed file (.slim)", tmp_path)
    bundle = packfile.unpack(packed.read_bytes())
    assert bundle.arch.source == "user"
    measured = measure.accuracy(bundle, test).value
    tab.until(lambda: float(tab.tiles["accuracy"]) == measured)
    assert float(tab.tiles["file size"]) == packed.stat().st_size
    script = downloaded(tab, "Script (.py)", tmp_path)
    compile(script.read_text(), str(script), "exec")
    again = tab.key("measure-again").locator("button")
    ask = tab.key("measure").locator("button")
    tab.until(lambda: again.count() + ask.count() > 0)
    if ask.count():
        ask.click()
    again.wait_for()
    assert "ms" in tab.page.inner_text("[data-testid=stMain]")


def downloaded(tab: Tab, name: str, folder: Path) -> Path:
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name=name).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path
