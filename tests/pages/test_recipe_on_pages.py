"""The recipe in hand and its links, without a browser: kept, undone, damaged, and the same on every page."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from html import unescape

import pytest
from visiting import (
    MODEL,
    MOVES,
    PAGES,
    PRUNED,
    SMALL,
    STORY,
    Visit,
    assert_shows_the_truth,
    settings,
    truth,
)

import engine.techniques  # noqa: F401  (fills the registry)
from engine.recipe import starts, technique
from engine.types import Recipe
from pages.parts import jobs, link

pytestmark = pytest.mark.usefixtures("framed", "no_job")


# ---------------------------------------------------------------- model, undo, the strip of steps


def test_each_model_has_a_recipe_of_its_own() -> None:
    visit = Visit("prune").edit("prune_weights", sparsity=0.5).click("keep-prune_weights")
    mine = visit.recipe
    visit.set("selectbox", "pick", SMALL)
    assert visit.link["m"] == SMALL
    assert visit.recipe == technique.complete(starts.recipe(SMALL)) != mine
    assert_shows_the_truth(visit, SMALL)
    assert visit.set("selectbox", "pick", MODEL).recipe == mine


def test_keep_puts_what_is_tried_into_the_recipe_with_the_figures_of_the_whole() -> None:
    visit = Visit("low_rank").edit("low_rank", energy=0.8)
    assert visit.recipe.key == STORY
    wanted = Recipe((technique.step("low_rank", energy=0.8), *visit.recipe))
    before, after = (truth(MODEL, key)["file size"] for key in (STORY, wanted.key))
    said = re.search(r'class="keeps" data-of="([^"]*)">(.*?)</p>', visit.html)
    assert said is not None
    assert unescape(said[1]) == visit.view.live.key
    assert all(f"{size / 1000:.1f} KB" in said[2] for size in (before, after))
    assert len(re.findall(r"title=\"[\d.]+ % to [\d.]+ %, n = [\d,]+", said[2])) == 2
    assert visit.click("keep-low_rank").recipe == wanted
    assert visit.at.button(key="keep-low_rank").label == "Kept"
    assert visit.click("keep-low_rank").recipe == wanted
    assert visit.click("undo").recipe.key == STORY


def test_alone_and_in_the_recipe_are_two_views_of_the_same_settings() -> None:
    visit = Visit("quantize").edit("quantize", bits=3)
    assert [step.technique for step in visit.view] == ["quantize"]
    visit.at.segmented_control(key="inside").set_value("in my recipe")
    visit.run()
    assert [step.technique for step in visit.view] == ["prune_weights", "quantize"]
    assert settings(visit.view, "quantize")["bits"] == 3
    assert settings(visit.recipe, "quantize")["bits"] == 4
    assert_shows_the_truth(visit)


def test_a_tour_of_the_pages_leaves_the_recipe_as_it_is() -> None:
    visit = Visit()
    for page, name, setting, value in MOVES:
        visit.open(page).edit(name, **{setting: value})
        assert visit.recipe.key == STORY


def test_a_step_is_opened_from_the_strip_where_it_stands() -> None:
    visit = Visit("overview").step(1, "open")
    assert visit.at.session_state["focus"] == "quantize"
    visit.open("quantize")
    assert visit.view == visit.recipe
    visit.edit("quantize", bits=6)
    assert settings(visit.view, "quantize")["bits"] == 6
    assert len(visit.click("keep-quantize").recipe) == 2
    assert settings(visit.recipe, "quantize")["bits"] == 6


def test_undo_goes_back_step_by_step_model_included() -> None:
    visit = Visit("prune")
    assert visit.at.button(key="undo").disabled
    first = visit.link
    second = visit.edit("prune_weights", sparsity=0.95).link
    visit.set("selectbox", "pick", SMALL)
    assert visit.click("undo").link == second
    assert visit.click("undo").link == first
    assert visit.at.button(key="undo").disabled
    assert_shows_the_truth(visit)


@pytest.mark.parametrize("page", ["overview", "prune", "tradeoffs"])
def test_steps_are_switched_off_moved_and_removed(page: str) -> None:
    visit = Visit(page, m=SMALL, r=STORY)
    assert on(visit) == [("prune_weights", True), ("quantize", True)]
    assert visit.menu(1).at.button(key="step-1-down").disabled
    assert not visit.at.button(key="step-1-up").disabled
    visit.step(1, "toggle")
    assert on(visit) == [("prune_weights", True), ("quantize", False)]
    assert_shows_the_truth(visit, SMALL)
    visit.step(0, "down")
    assert on(visit) == [("quantize", False), ("prune_weights", True)]
    visit.step(0, "remove")
    assert on(visit) == [("prune_weights", True)]
    assert_shows_the_truth(visit, SMALL)


def on(visit: Visit) -> list[tuple[str, bool]]:
    return [(step.technique, step.on) for step in visit.recipe]


def test_reset_is_the_original_and_can_be_undone() -> None:
    visit = Visit("prune", m=SMALL, r=STORY).click("reset-original")
    assert on(visit) == []
    assert_shows_the_truth(visit, SMALL)
    assert visit.click("undo").recipe.key == STORY
    assert visit.click("reset-start").recipe == technique.complete(starts.recipe(SMALL))


def test_a_race_starts_a_job_for_each_pruning_and_one_for_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Recipe] = []
    monkeypatch.setattr(jobs, "submit", lambda kind, title, recipe: started.append(Recipe.from_key(recipe)))
    visit = Visit("prune", m=SMALL, r='[["prune_weights",{"sparsity":0.5,"leave_out":["fc2"]}]]')
    visit.open_fold("race").click("race")
    steps = [[step.technique for step in recipe] for recipe in started]
    assert steps == [["prune_weights", "finetune"]] * 4
    pruned = [recipe.steps[0].settings for recipe in started]
    assert [(s["sparsity"], s["score"]) for s in pruned] == [
        (0.8, "magnitude"),
        (0.9, "magnitude"),
        (0.98, "magnitude"),
        (0.98, "random"),
    ]
    assert all(s["leave_out"] == ["fc2"] for s in pruned)
    assert len({recipe.steps[1].key for recipe in started}) == 1


def test_a_filter_goes_by_hand_and_comes_back_with_undo() -> None:
    visit = Visit("filters", m="lenet-5-small", r='[["prune_filters",{"removed":0.25}]]')
    before = visit.tiles
    visit.at.number_input(key="filter-conv1").set_value(2)
    visit.run().click("pick-conv1")
    assert visit.view.steps[0].settings["by_hand"] == {"conv1": [2]}
    assert visit.tiles["parameters"] < before["parameters"]
    assert_shows_the_truth(visit, "lenet-5-small")
    visit.click("undo")
    assert visit.view.steps[0].settings["by_hand"] == {}
    assert visit.tiles == before


@pytest.mark.parametrize(
    ("page", "model", "step"), [("filters", "mlp-500-300", "slim"), ("prune", SMALL, "prune_iteratively")]
)
def test_what_is_not_trained_yet_can_still_be_set(page: str, model: str, step: str) -> None:
    visit = Visit(page, m=model).open_fold(step)
    assert "has to be trained" in visit.words
    visit.edit(step, epochs=1)
    assert visit.panel(step)["settings"]["epochs"] == 1
    assert "has to be trained" in visit.words


def test_one_filter_by_hand_takes_along_what_reads_it() -> None:
    visit = Visit("filters", m="lenet-5-small").edit("prune_filters", removed=0.0)
    before = visit.tiles["parameters"]
    visit.set("number_input", "filter-conv1", 2).click("pick-conv1")
    assert settings(visit.view, "prune_filters")["removed"] == 0
    assert before - visit.tiles["parameters"] == 226
    assert "226 numbers in 3 tensors go with filter 2" in [e.label for e in visit.at.expander]


def test_a_picked_filter_that_a_narrower_net_has_not_is_its_last() -> None:
    visit = Visit("filters", m="lenet-5").set("number_input", "filter-conv1", 19)
    visit.set("selectbox", "pick", "lenet-5-small")
    assert visit.at.number_input(key="filter-conv1").value == 3
    assert "go with filter 3" in "\n".join(e.label for e in visit.at.expander)


def test_each_tab_below_the_pictures_opens() -> None:
    visit = Visit("prune", m=SMALL, r=STORY)
    visit.at.session_state["footer"] = "What changed"
    assert "Change in points" in visit.run().html.replace("change in", "Change in")
    visit.at.session_state["footer"] = "Ship it"
    visit.run()
    assert 'data-figure="latency' in visit.html
    assert "x</td>" in visit.html  # a ratio of the ledger
    labels = [b.proto.label for b in visit.at.get("download_button")]
    assert all(b.proto.HasField("deferred_file_id") for b in visit.at.get("download_button"))
    assert {"Packed file (.slim)", "Dense weights (.safetensors)", "Script (.py)"} <= set(labels)
    assert any(link.brief(visit.view).key in block.value for block in visit.at.code)


def test_the_glossary_is_at_hand() -> None:
    visit = Visit("prune", m=SMALL, r=STORY)
    visit.at.session_state["glossary"] = True
    assert "**sparsity**" in visit.run().words


# ---------------------------------------------------------------- links

BOMB = "z" + base64.urlsafe_b64encode(zlib.compress(b" " * 10_000_000, 9)).decode()
DAMAGED = (
    '[["prune_weights",{"sparsity":0.',
    "{}",
    "[[1]]",
    '[["nothing",{}]]',
    '[["quantize",{"bits":99}]]',
    '[["quantize",{"colour":1}]]',
    '[["prune_weights",{"sparsity":NaN}]]',
    "z!!!",
    "zAAAA",
    "z" + base64.urlsafe_b64encode(zlib.compress(b"[]")[:-2]).decode(),
    BOMB,
    "[" * 100_000,
    '[["prune_weights",{"sparsity":1e999}]]',
    '[["prune_weights",{"sparsity":"<img src=x onerror=alert(1)>"}]]',
)


@pytest.mark.parametrize("text", DAMAGED, ids=[text[:40] for text in DAMAGED])
def test_a_damaged_recipe_is_said_and_the_model_stays(text: str) -> None:
    visit = Visit("prune", m=SMALL, r=text)
    assert "The recipe in this link could not be read" in visit.words
    assert visit.link["m"] == SMALL
    assert visit.recipe == Recipe()
    assert_shows_the_truth(visit, SMALL)


def test_a_damaged_recipe_is_said_on_every_page() -> None:
    visit = Visit(m=SMALL, r="[[1]]")
    for page in PAGES:
        assert "The recipe in this link could not be read" in visit.open(page).words
        assert visit.link["m"] == SMALL


@pytest.mark.parametrize(
    ("tried", "place"),
    [("z123", "new"), ('[["quantize",{"bits":99}]]', "new"), ('[["quantize",{"bits":3}]]', "-1")],
)
def test_what_a_link_tries_and_that_makes_no_sense_is_said(tried: str, place: str) -> None:
    visit = Visit("quantize", m=MODEL, r="[]", t=tried, a=place)
    assert "What this link tries could not be read" in visit.words
    assert settings(visit.view, "quantize")["bits"] == technique.get("quantize").defaults["bits"]


def test_what_was_wrong_with_a_link_is_not_said_for_ever() -> None:
    visit = Visit("prune", m=SMALL, r="[[1]]")
    visit.edit("prune_weights", sparsity=0.95)
    assert "could not be read" not in visit.words


@pytest.mark.parametrize("model", ["resnet-9000", "<b>no</b>", "../../etc/passwd", ""])
def test_an_unknown_model_is_said(model: str) -> None:
    visit = Visit("prune", m=model, r=PRUNED)
    assert "is not known here" in visit.words or model == ""
    assert visit.link["m"] == MODEL
    assert_shows_the_truth(visit)


@pytest.mark.parametrize(
    ("name", "pages"), [("file-0123456789abcdef", PAGES), ("file-", ["prune"]), ("file-../../x", ["prune"])]
)
def test_a_link_to_weights_that_are_not_here_asks_for_the_file(name: str, pages: Sequence[str]) -> None:
    visit = Visit(m=name, r=PRUNED)
    for page in pages:
        assert "upload that file to go on" in visit.open(page).words
    assert visit.link["m"] == name
    assert visit.recipe.key == PRUNED


def test_a_long_recipe_is_folded_in_the_link_and_comes_back() -> None:
    key = "[" + ",".join(f'["prune_weights",{{"sparsity":{i / 100}}}]' for i in range(1, 31)) + "]"
    visit = Visit("prune", m=SMALL, r=key)
    assert len(visit.recipe) == 30
    assert visit.link["r"].startswith("z")
    assert len(visit.link["r"]) < len(key) / 2
    again = Visit("prune", **visit.link)
    assert again.recipe == visit.recipe
    assert again.tiles == visit.tiles


def test_a_step_whose_layer_is_not_there_is_refused_by_its_number() -> None:
    key = '[["prune_weights",{"sparsity":0.5}],["quantize",{"bits":4,"per_layer":{"fc9":2}}]]'
    visit = Visit("overview", m=MODEL, r=key)
    assert re.search(r"step 2 \(quantize\).*'fc9'", visit.words)
