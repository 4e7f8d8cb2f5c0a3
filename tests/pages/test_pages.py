"""Every page without a browser: what it shows is what the engine says, and no link or click breaks it."""

from __future__ import annotations

import base64
import errno
import functools
import io
import json
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from driving import controls, panels, report_edits
from safetensors.torch import save
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import count, measure
from engine.file import packfile
from engine.jobs import home, layerwise, models, recipes, shipped, store, streaming
from engine.net import zoo
from engine.recipe import starts, technique
from engine.recipe.knobs import Choice
from engine.recipe.run import run
from engine.recipe.technique import REGISTRY
from engine.types import Bundle, Progress, Recipe
from pages.parts import cached, figures, jobs, link, live, menu, session
from pages.parts.draft import Trial, Work, seen

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.usefixtures("framed")
PAGES = tuple(entry.name for entry in menu.of_files())
MODEL = "lenet-300-100"
SMALL = "mlp-32"
STORY = technique.complete(starts.recipe(MODEL)).key
UNFIT = ("compact", "heads", "low_rank_rnn")  # what MODEL has not: convolutions, attention, an LSTM
PRUNED = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]')).key


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job measures the whole test set behind a test: its figure would replace the first at any time."""
    monkeypatch.setattr(jobs, "measure_all", lambda owner, subject, key: None)


class Visit:
    """One visitor: a session of the real app, from the entry point, page after page."""

    def __init__(self, page: str = "overview", **query: str) -> None:
        self.at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        for name, value in query.items():
            self.at.query_params[name] = value
        self.open(page)

    def run(self) -> Visit:
        """Run the script, as after a click."""
        self.at.run()
        assert [f"{e.message}\n{''.join(e.stack_trace)}" for e in self.at.exception] == []
        return self

    def open(self, page: str) -> Visit:
        if page in PAGES:
            self.at.switch_page(f"pages/{page}.py")
        else:  # switch_page knows pages with a file only
            self.at._page_hash = calc_hash(page)
        return self.run()

    @property
    def html(self) -> str:
        return "\n".join(part.proto.body for part in self.at.html)

    @property
    def tiles(self) -> dict[str, float]:
        """The header: name of the figure -> its value."""
        header = next(body for body in self.html.split("\n") if body.startswith('<div class="tiles"'))
        found = re.findall(r'data-figure="([^"]*)" data-value="([^"]*)" aria-busy="([^"]*)"', header)
        assert all(busy == "false" for *_, busy in found)
        return {unescape(name): float(value) for name, value, _ in found}

    @property
    def recipe(self) -> Recipe:
        """What was kept."""
        model = self.work.model
        return technique.complete(self.work.recipes.get(model, starts.recipe(model)))

    @property
    def work(self) -> Work:
        found: Work = self.at.session_state["work"]
        return found

    @property
    def view(self) -> Recipe:
        """What the page says that it shows: its step alone or in the recipe, as far as it is trained."""
        focus, model = self.at.session_state["focus"], self.work.model
        tried = self.work.trials.get((model, focus)) or (
            Trial(technique.step(focus), technique.get(focus).mends) if focus else None
        )
        whole, place = seen(self.recipe, tried) if tried else (self.recipe, -1)
        spec = (
            zoo.entry(model).data
            if model in zoo.ENTRIES
            else {**cached.given(), **session_files(self)}[model]["data"]
        )
        subject = cached.subject(model, spec)
        gone = set(cached.untrained(subject, whole))
        if (
            tried and place in gone
        ):  # then as it was trained before: with its defaults, where these are stored
            whole = seen(self.recipe, replace(tried, step=technique.step(focus)))[0]
            gone = set(cached.untrained(subject, whole))
        if not cached.fits(
            subject, Recipe(tuple(s for i, s in enumerate(whole) if i <= place and i not in gone))
        ):
            gone.add(place)
        return Recipe(tuple(step for i, step in enumerate(whole) if i not in gone))

    @property
    def link(self) -> dict[str, str]:
        """What the address bar holds."""
        return {k: v[0] if isinstance(v, list) else v for k, v in self.at.query_params.items()}

    @property
    def words(self) -> str:
        """All messages on the page."""
        kinds = (self.at.warning, self.at.error, self.at.info, self.at.caption, self.at.markdown)
        return "\n".join(element.value for kind in kinds for element in kind)

    def set(self, kind: str, key: str, value: Any) -> Visit:
        getattr(self.at, kind)(key=key).set_value(value)
        return self.run()

    def edit(self, name: str, **settings: Any) -> Visit:
        """Set controls in a technique's panel, as the browser reports it."""
        report_edits(self.at, name, settings)
        return self.run()

    def panel(self, name: str) -> dict[str, Any]:
        """What the page told the browser of a technique's panel."""
        return panels(self.at)[name]

    def menu(self, number: int) -> Visit:
        """Open the menu of a step in the strip."""
        self.at.session_state[f"step-{number}"] = True
        return self.run()

    def step(self, number: int, action: str) -> Visit:
        """Press a button in the menu of a step."""
        return self.menu(number).click(f"step-{number}-{action}")

    def open_fold(self, key: str) -> Visit:
        """Open a part of the page that is worked out when it is opened."""
        self.at.session_state[f"fold-{key}"] = True
        return self.run()

    def click(self, key: str) -> Visit:
        self.at.button(key=key).click()
        return self.run()


def on_sample(model: str, bundle: Bundle) -> float:
    """Accuracy on the images that a page measures at once."""
    sample = sets.load(zoo.entry(model).data).test.stratified(measure.sample_size(bundle.origin))
    return measure.accuracy(bundle, sample).value


@functools.cache
def original(model: str) -> float:
    return on_sample(model, zoo.load(model))


@functools.cache
def truth(model: str, key: str) -> dict[str, float]:
    """The header as the engine works it out, without a page, a cache or a session."""
    recipe, data = Recipe.from_key(key), sets.load(zoo.entry(model).data)
    # What came trained is trained again by the tests of `engine.jobs.shipped`.
    bundle, rest = zoo.load(model), recipe.steps
    for count_ in range(len(recipe), 0, -1):
        if stored := shipped.get(bundle, Recipe(recipe.steps[:count_]), data):
            bundle, rest = stored[0], recipe.steps[count_:]
            break
    bundle, _ = run(bundle, Recipe(rest), data)
    accuracy = zoo.card(model)["test accuracy"]["value"] + on_sample(model, bundle) - original(model)
    figures = (packfile.size(bundle), count.sparsity(bundle), count.parameters(bundle))
    return {"accuracy": pytest.approx(accuracy, abs=1e-12), **{f.name: f.value for f in figures}}


def assert_shows_the_truth(visit: Visit, model: str = MODEL) -> None:
    assert visit.tiles == truth(model, visit.view.key)


# ---------------------------------------------------------------- what a page shows


@pytest.mark.parametrize("page", PAGES)
def test_a_first_visit_tells_a_story_in_true_numbers_that_can_be_read(page: str) -> None:
    visit = Visit(page)
    assert visit.recipe.key == STORY
    assert_shows_the_truth(visit)
    assert_has_words_and_help(visit)
    is_fit = page not in UNFIT
    assert len(visit.view) == (is_fit if visit.at.session_state["focus"] else 2)


def assert_has_words_and_help(visit: Visit) -> None:
    """Charts and pictures have a text for who can't see them, controls a sentence of help."""
    assert [c.proto.alt for c in visit.at.get("plotly_chart") if len(c.proto.alt.split()) < 3] == []
    assert re.findall(r"<img(?![^>]*\balt=\"[^\"]+\")[^>]*>", visit.html) == []
    kinds = ("select_slider", "selectbox", "multiselect", "toggle", "button_group")
    widgets = [widget for kind in kinds for widget in getattr(visit.at, kind)]
    assert widgets
    assert [widget.label for widget in widgets if not widget.proto.help] == []
    assert [
        one["label"]
        for told in panels(visit.at).values()
        for one in controls(told).values()
        if not one["help"]
    ] == []


def test_the_story_costs_something_to_tell() -> None:
    assert truth(MODEL, STORY)["accuracy"].expected < truth(MODEL, "[]")["accuracy"].expected


ONE_OF_EACH = (SMALL, "lenet-5-small", "resnet-8", "lstm-32")  # the others differ from them in size
SOME_PAGES = ("overview", "prune", "quantize", "filters", "low_rank")


@pytest.mark.parametrize(
    "model", [name for name in zoo.trained() if name != "glass-en"]
)  # test_language_page
def test_every_net_can_be_looked_at_on_every_page(model: str) -> None:
    # Curvature on 50 samples, the fewest: what the default of 200 gives is shown on a first visit.
    visit = Visit("damage", m=model, r=PRUNED, t='[["optimal_brain_damage",{"samples":50}]]')
    for page in PAGES if model in ONE_OF_EACH else SOME_PAGES:
        visit.open(page)
        assert visit.link["m"] == model
        assert_shows_the_truth(visit, model)


def test_the_empty_recipe_is_the_original() -> None:
    visit = Visit(m=MODEL, r="[]")
    for page in PAGES:
        assert_shows_the_truth(visit.open(page))
        assert_has_header_and_recipe(visit)
        assert "empty: the original" in visit.words


def assert_has_header_and_recipe(visit: Visit) -> None:
    assert 'class="tiles"' in visit.html
    assert "**My recipe**" in visit.words
    assert visit.at.button(key="undo") is not None


def test_every_page_has_its_header_and_the_recipe_where_there_is_no_teacher() -> None:
    visit = Visit(m=SMALL, r=PRUNED)
    for page in PAGES:
        assert_has_header_and_recipe(visit.open(page))


def test_an_empty_sweep_page_offers_to_start() -> None:
    visit = Visit("tradeoffs", m=MODEL, r="[]")
    visit.at.session_state["fold-vary"] = True
    visit.run()
    button = next(b for b in visit.at.button if b.label == "Start with pruning")
    button.click()
    visit.run()
    assert visit.recipe == Recipe((technique.step("prune_weights"),))
    assert visit.at.button(key="run-sweep").disabled is False


# ---------------------------------------------------------------- moving a control

MOVES = (
    ("prune", "prune_weights", "sparsity", 0.95),
    ("prune", "prune_weights", "sparsity", 0.9825),
    ("quantize", "quantize", "bits", 3),
    ("quantize", "quantize", "granularity", "tensor"),
    ("low_rank", "low_rank", "energy", 0.8),
)


def settings(recipe: Recipe, name: str) -> Mapping[str, Any]:
    return next(step.settings for step in recipe if step.technique == name)


@pytest.mark.parametrize(("page", "name", "setting", "value"), MOVES)
def test_a_moved_control_changes_link_and_numbers_and_no_recipe(
    page: str, name: str, setting: str, value: Any
) -> None:
    visit = Visit(page, m=SMALL, r=STORY)
    before, link, kept = visit.tiles, visit.link["t"], visit.recipe
    visit.edit(name, **{setting: value})
    assert settings(visit.view, name)[setting] == value
    assert visit.recipe == kept
    assert visit.link["t"] != link
    assert visit.tiles != before
    assert_shows_the_truth(visit, SMALL)
    again = Visit(page, **visit.link)
    assert (again.recipe, again.view) == (visit.recipe, visit.view)


def test_a_moved_slider_of_the_first_page_a_newcomer_opens() -> None:
    visit = Visit("prune").edit("prune_weights", sparsity=0.95)
    assert visit.tiles["sparsity"] == pytest.approx(0.95, abs=0.01)
    assert_shows_the_truth(visit)


def test_an_edit_that_is_not_allowed_is_said_and_taken_back() -> None:
    visit = Visit("prune", m=SMALL, r=STORY)
    version = visit.panel("prune_weights")["version"]
    visit.edit("prune_weights", sparsity=7.0)
    assert "sparsity is 7.0: allowed is a number from 0 to 0.999" in visit.words
    assert visit.recipe.key == STORY
    told = visit.panel("prune_weights")
    before = settings(Recipe.from_key(STORY), "prune_weights")["sparsity"]
    assert (told["settings"]["sparsity"], told["version"]) == (before, version + 1)


def test_high_sparsities_are_stops_of_the_slider() -> None:
    told = controls(Visit("prune", m=SMALL, r=STORY).panel("prune_weights"))["sparsity"]
    assert told["percent"]
    assert {0.98, 0.99, 0.995} <= set(told["stops"])


@pytest.mark.parametrize(
    ("page", "name", "setting"),
    [
        (spec.page, spec.name, setting)
        for spec in REGISTRY.values()
        for setting, knob in spec.knobs.items()
        if isinstance(knob, Choice) and not spec.trains
    ],
)
def test_every_option_of_every_choice_draws_a_page(page: str, name: str, setting: str) -> None:
    spec = REGISTRY[name]
    # These have all that can go, an LSTM, and attention.
    special = {"prune_weights": "resnet-8", "low_rank_rnn": "lstm-32", "prune_heads": "transformer-topics"}
    model = special.get(name, SMALL)
    knob = spec.knobs[setting]
    shown = {other: values[0] for other, values in knob.when if spec.defaults[other] not in values}
    visit = Visit(page, m=model, r=json.dumps([[name, shown]]) if shown else STORY)
    for option in knob.options:  # type: ignore[attr-defined]
        assert option in controls(visit.panel(name))[setting]["options"]
        visit.edit(name, **{setting: option})
        assert settings(visit.view, name)[setting] == option
        assert visit.tiles["accuracy"] > 0


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_preset_sets_everything_at_once(name: str) -> None:
    spec = REGISTRY[name]
    needs = {
        "distill": MODEL,
        "slim": "mlp-500-300",
        "zeroq": "mlp-500-300",
        "condense": "resnet-8",
        "replace_convs": "lenet-5-small",
        "factor_transfer": "lenet-5",
        "low_rank_rnn": "lstm-32",
        "prune_heads": "transformer-topics",
    }
    model = needs.get(name, SMALL)
    visit = Visit(spec.page, m=model, r=STORY)
    if name != visit.at.session_state["focus"]:
        visit.open_fold(name)
    for preset, settings in spec.presets.items():
        visit.edit(name, **{**spec.defaults, **visit.panel(name)["presets"][preset]["settings"]})
        assert visit.panel(name)["settings"] == {**spec.defaults, **settings}
        assert_shows_the_truth(visit, model)


@pytest.mark.parametrize("page", PAGES)
def test_a_step_that_is_not_trained_is_left_out_and_the_strip_offers_to_train_it(page: str) -> None:
    visit = Visit(page, m=MODEL, r='[["distill",{"epochs":2,"subset":600}],["quantize",{"bits":4}]]')
    assert 600 not in [step.settings.get("subset") for step in visit.view]
    assert_shows_the_truth(visit)
    assert_has_header_and_recipe(visit)
    assert visit.at.button(key="train-recipe").label.startswith("Train it again (about ")


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


# ---------------------------------------------------------------- the visitor's own weights


def upload(visit: Visit, name: str, content: bytes) -> Visit:
    visit.at.file_uploader[0].set_value((name, content, "application/octet-stream"))
    return visit.run()


def weights() -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in zoo.load(SMALL).state().items()}


def test_own_weights_that_fit_are_measured_once_it_is_said_what_they_are() -> None:
    visit = upload(Visit(m=SMALL, r=STORY), "mine.safetensors", save(weights()))
    assert visit.link["m"].startswith("file-")
    assert visit.recipe == Recipe()  # the first figures are those of the file as it is
    assert "accuracy" not in visit.tiles
    for said in (zoo.entry(SMALL).title, "ReLU", "MNIST", "minus 0.1307, divided by 0.3081"):
        assert said in visit.html + visit.words
    visit.click("proposal-yes")
    assert visit.tiles["accuracy"] == truth(SMALL, "[]")["accuracy"]
    assert "guessing" not in visit.words
    visit.click("undo")
    assert visit.link["m"] == SMALL
    assert visit.recipe.key == STORY


def random_net(hidden: tuple[str, ...] = ("fc1", "fc2", "fc3")) -> bytes:
    """A net of 784-300-100-10 units that its owner runs with tanh, on data of its own."""
    source = torch.Generator().manual_seed(5)
    widths, state = (784, 300, 100, 10), {}
    for name, inputs, outputs in zip(hidden, widths[:-1], widths[1:], strict=True):
        state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=source) / inputs**0.5
        state[f"{name}.bias"] = torch.zeros(outputs)
    return save(state)


@pytest.mark.parametrize(
    ("names", "pages"), [(("fc1", "fc2", "fc3"), PAGES), (("0", "2", "4"), ["prune", "tradeoffs"])]
)
def test_a_net_that_only_looks_like_one_of_the_zoo_has_no_accuracy_before_its_owner_says_so(
    names: tuple[str, ...], pages: Sequence[str]
) -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "tanh.safetensors", random_net(names))
    for page in pages:
        visit.open(page)
        assert "accuracy" not in visit.tiles
        assert "Is this file LeNet-300-100?" in visit.words
        assert not re.search(r"[\d.]+ % right|n = 10,000", visit.html + visit.words)
    visit.open("overview").click("proposal-yes")
    assert 0.02 < visit.tiles["accuracy"] < 0.2
    assert "guessing in 10 %" in visit.words
    visit.click("ask-again")
    assert "accuracy" not in visit.tiles
    visit.click("proposal-no")
    assert "accuracy" not in visit.tiles
    assert "Is this file" not in visit.words
    assert "weights only" in visit.words


def test_a_published_net_is_asked_for_its_scaling_and_measured() -> None:
    state = {n.replace("fc.", "linear."): t for n, t in zoo.seeded("resnet-32", 1).state_dict().items()}
    visit = upload(Visit(m=SMALL, r="[]"), "resnet32.th", pickled({"state_dict": state}))
    assert "Is this file ResNet-32?" in visit.words
    visit.click("proposal-yes")
    for page in SOME_PAGES:
        assert "accuracy" in visit.open(page).tiles


def test_other_names_are_shown_with_what_they_are_taken_for() -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "sequence.safetensors", random_net(("0", "2", "4")))
    assert "<td>2.weight</td><td class='text'>fc2.weight</td><td>100 x 300</td>" in visit.html
    visit.click("proposal-yes")
    assert list(cached.layers(session_subject(visit), "[]")["layer"]) == ["fc1", "fc2", "fc3"]


def session_subject(visit: Visit) -> str:
    model = visit.link["m"]
    return cached.subject(model, visit.at.session_state["files"][model]["data"])


def test_inputs_that_were_scaled_otherwise_are_measured_so() -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "mine.safetensors", save(weights()))
    model = visit.link["m"]
    visit.click("proposal-other")
    visit.set("radio", f"proposal-scale-{model}", "own")
    visit.set("number_input", f"mean-{model}-0", 0.5).set("number_input", f"deviation-{model}-0", 0.25)
    visit.click("proposal-scaled")
    data = sets.load("mnist").standardised((0.5,), (0.25,))
    expected = measure.accuracy(zoo.load(SMALL), data.test).value
    assert visit.tiles["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert visit.link["d"] == "mnist@0.5/0.25"


def test_a_link_keeps_what_its_visitor_said_and_says_nothing_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = upload(Visit(m=SMALL, r="[]"), "mine.safetensors", save(weights()))
    mine.click("proposal-yes")
    link = mine.link
    assert link["d"] == "mnist"
    mine.click("ask-again")
    assert "d" not in mine.link
    for name, value in link.items():
        mine.at.query_params[name] = value
    assert "accuracy" not in mine.run().tiles, "a request may still say the link of before"
    for name, value in link.items():
        mine.at.query_params[name] = value
    with monkeypatch.context() as patch:
        patch.setattr(session, "_went_back", lambda: True)
        assert "accuracy" in mine.run().tiles

    other = Visit(**{**link, "d": "mnist@0.5/0.5"})
    assert "upload the file" in other.words
    upload(other, "same.safetensors", save(weights()))
    assert other.link["m"] == link["m"]
    assert "accuracy" not in other.tiles
    assert "minus 0.5, divided by 0.5" in other.words
    other.click("proposal-link")
    assert other.link["d"] == "mnist@0.5/0.5"
    assert "accuracy" in other.tiles


@pytest.mark.parametrize(
    "spec", ["cifar10", "nothing", "mnist@nan/1", "mnist@0/0", "mnist@1,2/3", "mnist@/" + "9" * 300]
)
def test_a_links_word_on_a_file_that_makes_no_sense_is_not_offered(spec: str) -> None:
    mine = upload(Visit(m=SMALL, r="[]"), "mine.safetensors", save(weights()))
    other = Visit(m=mine.link["m"], r="[]", d=spec)
    upload(other, "same.safetensors", save(weights()))
    assert "The link that you opened" not in other.words
    assert "accuracy" not in other.tiles
    assert "Is this file" in other.words


def test_a_file_is_removed_from_the_list() -> None:
    visit = upload(Visit(m=SMALL, r=PRUNED), "mine.safetensors", save({"w": torch.full((9, 9), 0.5)}))
    file = visit.link["m"]
    assert "mine.safetensors" in visit.at.selectbox(key="pick").options
    visit.click("remove-file")
    assert visit.link["m"] == SMALL
    assert visit.recipe.key == PRUNED
    assert "mine.safetensors" not in visit.at.selectbox(key="pick").options
    assert not models.net_path(file).exists()


def bare() -> bytes:
    """Weights that no known architecture has: 40x30, 8x4x3x3 and 8 numbers."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (40, 30), "b.weight": (8, 4, 3, 3), "b.bias": (8,)}
    return save({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})


def test_bare_weights_are_explored_on_every_page() -> None:
    visit = upload(Visit(m=SMALL, r=PRUNED), "bare.safetensors", bare())
    for page in PAGES:
        assert_has_header_and_recipe(visit.open(page))
        assert "accuracy" not in visit.tiles
        if page in ("overview", "prune", "quantize", "low_rank"):
            assert "No known architecture fits" in visit.words
            assert visit.tiles["parameters"] == 40 * 30 + 8 * 36 + 8
            assert visit.at.get("plotly_chart")


def test_a_file_without_a_matrix_is_looked_at() -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "bias.safetensors", save({"a.bias": torch.ones(5)}))
    assert visit.tiles["parameters"] == 5


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


BAD = {
    "cut.safetensors": (lambda: save(weights())[:-100], "cut.safetensors "),
    "text.pt": (lambda: b"hello", "text.pt "),
    "nan.safetensors": (lambda: save({**weights(), "fc1.bias": torch.full((32,), torch.nan)}), "fc1.bias"),
    "none.pt": (lambda: pickled({"steps": 3}), "none.pt "),
    "code.pt": (lambda: pickled(torch.nn.Linear(2, 2)), "code.pt "),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_refused_and_nothing_is_lost(name: str) -> None:
    make, said = BAD[name]
    visit = Visit("prune", m=SMALL, r=STORY)
    link, tiles = visit.link, visit.tiles
    upload(visit, name, make())
    assert said in visit.words
    assert f"{name}: {name}" not in visit.words
    assert visit.link == link
    assert visit.tiles == tiles


def test_a_home_that_is_none_is_said_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "file" / "home"))
    assert f"{tmp_path / 'file' / 'home'} can't be used" in Visit("prune", m=SMALL, r=PRUNED).words


def test_a_full_disk_is_said_and_takes_nothing_along(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = upload(Visit("prune", m=SMALL, r=PRUNED), "first.safetensors", bare())
    owner, before = visit.at.session_state["owner"], (visit.link, visit.tiles)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        for lost in ("TemporaryFile", "mkstemp"):
            patch.setattr(tempfile, lost, full)
        upload(visit, "second.safetensors", save(weights()))
        assert visit.words.count("No space left on device") == 2  # over the page, and beside the upload
        assert "second.safetensors: the home folder" in visit.words
        assert (visit.link, visit.tiles) == before
    with monkeypatch.context() as patch:  # the net finds room, the list of them does not
        patch.setattr(store, "put", full_home)
        upload(visit, "second.safetensors", save(weights()))
        assert (visit.link, visit.tiles) == before
    assert list(store.get(f"files-{owner}") or {}) == [visit.link["m"]] == list(session_files(visit))


def session_files(visit: Visit) -> dict[str, Any]:
    return dict(visit.at.session_state["files"])


def full_home(*_: Any) -> None:
    raise home.HomeError("the home folder is full")


# ---------------------------------------------------------------- a net too large to be compressed whole


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The server's own weights, and a bound that they are above."""
    source = torch.Generator().manual_seed(0)
    state = {f"{name}.weight": torch.randn(60, 40, generator=source) for name in "ab"}
    path = tmp_path / "net.safetensors"
    path.write_bytes(save({**state, "a.bias": torch.zeros(60)}))
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIMSCOPE_WEIGHTS", str(path))
    monkeypatch.setattr(layerwise, "LARGE", 2000)
    monkeypatch.setattr(layerwise, "SHOWN", 1000)
    known = (cached.given, cached.is_large)
    for memory in known:
        memory.clear()
    yield path
    for memory in known:
        memory.clear()


@pytest.mark.parametrize("page", PAGES)
def test_a_large_net_is_drawn_without_being_compressed(
    page: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(subject: str, key: str) -> tuple[Any, ...]:
        assert key == "[]", "this recipe was applied to the whole model"
        return cached.original(subject), ()

    for module in (cached, cached.states, cached.weights, cached.sizes, cached.predictions, cached.runtimes):
        monkeypatch.setattr(module, "after", after)
    visit = Visit(page)
    assert visit.link["m"].startswith("file-")
    if page != "distill":  # it has nothing to show without a net that runs
        assert visit.tiles == {"parameters": 4860.0} | ({} if visit.view.steps else {"sparsity": 0.0})


def test_a_large_net_says_what_each_layer_loses_and_which_rows_stand_for_it(large: Path) -> None:
    visit = Visit("prune", r='[["prune_weights",{"sparsity":0.5}]]')
    told = visit.html
    assert "give or take" in told
    together = run(
        models.get_model(visit.link["m"]), Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]'), None
    )
    kept = together[1][0].tables["layers"]["kept"].tolist()
    shown = [int(cell.replace(",", "")) for cell in re.findall(r"<td[^>]*>([\d,]+)</td>", told)]
    assert all(any(abs(count_ - cell) <= 0.02 * 2400 for cell in shown) for count_ in kept)
    look = live.look(cached.subject(visit.link["m"], ""), visit.recipe, 0, "a")
    assert any("rows, evenly spaced" in note for note in look.report.notes)


def test_the_tiles_of_a_large_net_are_those_of_its_file(large: Path) -> None:
    recipe = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]'))
    visit = Visit("prune", r=recipe.key)
    assert set(visit.tiles) == {"parameters"}
    streaming.write({"model": visit.link["m"], "recipe": recipe.key}, Progress())
    visit.run()
    after = run(models.get_model(visit.link["m"]), recipe, None)[0]
    assert visit.tiles["file size"] == len(packfile.pack(after))
    assert visit.tiles["sparsity"] == count.sparsity(after).value == 0.5


# technique -> page, net, a short training, and words that only its outcome says
TRAINED = (
    ("finetune", "prune", SMALL, {"epochs": 1}, "trained on 55,000 samples"),
    (
        "prune_iteratively",
        "prune",
        SMALL,
        {"epochs": 1, "rounds": 2, "allocation": "sensitivity"},
        "bore alone",
    ),
    ("slim", "filters", "mlp-500-300", {"epochs": 1, "tuning": 1, "removed": 0.5}, "size of the scale"),
    ("lottery_ticket", "tickets", SMALL, {"epochs": 1, "rounds": 1}, "a random mask, 80.0% left"),
)


@pytest.mark.parametrize(("name", "page", "model", "brief", "words"), TRAINED, ids=[t[0] for t in TRAINED])
def test_what_was_trained_is_shown(
    name: str, page: str, model: str, brief: dict[str, Any], words: str
) -> None:
    visit = Visit(page, m=model)
    visit = visit if name == visit.at.session_state["focus"] else visit.open_fold(name)
    before = visit.view.steps if name == "finetune" else ()
    recipe = Recipe((*before, technique.step(name, **brief)))
    recipes.apply({"model": model, "recipe": recipe.key, "data": zoo.entry(model).data}, Progress())
    visit.edit(name, **brief)
    charts = "".join(str(chart.proto.spec) for chart in visit.at.get("plotly_chart"))
    assert words in visit.html + visit.words + charts
    assert_shows_the_truth(visit, model)


def test_a_training_that_cannot_work_on_the_net_is_not_offered() -> None:
    visit = Visit("overview", m=SMALL, r='[["condense",{}]]')
    assert "a step does not fit this model" in visit.html
    assert "no convolution" in visit.html + visit.words
    assert [button for button in visit.at.button if button.key.startswith("run-")] == []


@pytest.mark.parametrize(
    ("page", "recipe", "model", "said"),
    [
        (
            "low_rank",
            '[["low_rank",{"by":"rank","rank":75,"leave_out":["fc1"]}]]',
            "lenet-300-100",
            "left out",
        ),
        (
            "prune",
            '[["prune_weights",{"sparsity":0.9,"leave_out":["fc1"]}]]',
            SMALL,
            "is left out: it stays as it is",
        ),
        (
            "quantize",
            '[["prune_weights",{"sparsity":0.8}],["quantize",{"bits":1}]]',
            SMALL,
            "zeros not drawn",
        ),
    ],
)
def test_what_is_left_out_of_a_picture_is_said(page: str, recipe: str, model: str, said: str) -> None:
    visit = Visit(page, m=model, r=recipe)
    assert said in visit.html + visit.words


def test_a_share_that_was_clipped_is_the_same_in_words_and_table() -> None:
    recipe = (
        '[["prune_weights",{"sparsity":0.9}],["quantize",{"bits":4,"range":"percentile","percentile":99}]]'
    )
    visit = Visit("quantize", m=SMALL, r=recipe).open_fold("one-weight")
    spoken = re.search(r"Clipped: ([<>\d.]+ %) of all", unescape(visit.html))
    assert spoken is not None
    assert f"{spoken[1]}</td>" in unescape(visit.html)


def test_the_layers_of_a_recurrent_net_share_all_its_multiply_adds() -> None:
    table = cached.layers(cached.subject("lstm-32", zoo.entry("lstm-32").data), "[]")
    assert table["macs"].sum() == count.macs(zoo.load("lstm-32")).value
    assert (table["macs"] > 0).all()


def test_damage_says_how_many_are_zero_where_more_are_than_it_was_asked_for() -> None:
    recipe = '[["prune_weights",{"sparsity":0.8}],["optimal_brain_damage",{"sparsity":0.6}]]'
    answer = live.answer(
        cached.subject(SMALL, zoo.entry(SMALL).data),
        technique.complete(Recipe.from_key(recipe)),
        1,
        "fc1",
    )
    assert answer["marks"]["groups"][0]["text"] == "80 % zero"


def test_a_change_of_accuracy_is_told_in_points() -> None:
    change = measure.paired_difference(torch.tensor([1, 1, 1, 0]), torch.tensor([1, 0, 0, 0]), torch.ones(4))
    html = figures.Tile("Change", change, figures.said(change)).html()
    assert '<div class="value">-50.00 points</div>' in html
    assert f"({100 * change.spread[0]:+.2f} to {100 * change.spread[1]:+.2f})" in html


def test_streamlit_says_that_a_run_follows_the_browsers_back_button() -> None:
    """The flag is not of its public interface."""
    from streamlit.runtime.scriptrunner import ScriptRunContext

    assert "is_history_navigation" in ScriptRunContext.__dataclass_fields__
