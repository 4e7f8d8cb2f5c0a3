"""A tour of all pages in Chromium: sliders leave the recipe alone, tiles say what the command line says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browsing import SMALL, Tab, move
from conftest import Server
from test_first_screen import BENCHES

from engine import cli
from engine.net import zoo
from engine.recipe import technique
from pages.parts import menu

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("decoded_here")]
KEPT = '[["prune_weights",{"sparsity":0.7}]]'


def compressed(recipe: list[object], folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """What `slimscope compress` prints of a recipe."""
    told = json.dumps(recipe)
    cli.main(["compress", SMALL, "--recipe", told, "--out", str(folder / "tour.slim"), "--json"])
    said = json.loads(capsys.readouterr().out)
    return {figure["name"]: figure["value"] for figure in said["figures"]}


def test_a_tour_of_all_pages_that_moves_main_sliders_keeps_the_recipe_and_says_what_the_command_says(
    tab: Tab, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tab.open("overview", SMALL, KEPT)
    for entry in menu.entries():
        tab.go(entry).assert_well()
        assert tab.kept == json.loads(KEPT)
        if entry not in BENCHES or technique.get(entry.technique).why_not(zoo.load(SMALL)):
            continue
        main = tab.page.locator(".st-key-workbench .control.main").first
        move(tab, main.get_attribute("data-control"), 2)
        setting = main.get_attribute("data-setting")
        tab.until(lambda setting=setting: setting in tab.recipe[0][1])
        tab.heard().until(lambda: "n = 10,000" in tab.page.inner_text(".tiles"))
        assert tab.kept == json.loads(KEPT)
        told = compressed(tab.recipe, tmp_path, capsys)
        shown = {name: float(value) for name, value in tab.drawn().tiles.items()}
        assert shown["file size"] == told["file size"]
        assert shown["accuracy"] == told["accuracy"]
        tab.assert_well()
