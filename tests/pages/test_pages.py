"""Every page without a browser: what it shows is what the engine says, and no control breaks it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
import torch
from driving import controls, panels
from visiting import (
    MODEL,
    MOVES,
    PAGES,
    PRUNED,
    SMALL,
    SOME_PAGES,
    STORY,
    Visit,
    assert_has_header_and_recipe,
    assert_shows_the_truth,
    settings,
    truth,
)

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures import count, measure
from engine.jobs import recipes
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.knobs import Choice
from engine.recipe.technique import REGISTRY
from engine.types import Progress, Recipe
from pages.parts import cached, figures, live

pytestmark = pytest.mark.usefixtures("framed", "no_job")
UNFIT = ("compact", "heads", "low_rank_rnn")  # what MODEL has not: convolutions, attention, an LSTM


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


# Every page is seen with one of these, and with MODEL; other nets differ from them in size.
ONE_OF_EACH = ("lenet-5-small", "resnet-8", "lstm-32")
FITS = {"compact": "resnet-8", "heads": "transformer-topics", "low_rank_rnn": "lstm-32"}
SEEN_WITH = {page: FITS.get(page, ONE_OF_EACH[i % len(ONE_OF_EACH)]) for i, page in enumerate(PAGES)}


@pytest.mark.parametrize(
    "model", [name for name in zoo.trained() if name != "glass-en"]
)  # test_language_page
def test_every_net_opens_and_every_page_is_seen_with_one_that_fits(model: str) -> None:
    own = [page for page in PAGES if SEEN_WITH[page] == model]
    # Curvature on 50 samples, the fewest: what the default of 200 gives is shown on a first visit.
    few = {"t": '[["optimal_brain_damage",{"samples":50}]]'} if "damage" in own else {}
    visit = Visit("damage" if few else "filters", m=model, r=PRUNED, **few)
    for page in dict.fromkeys(("overview", "filters", *own)):
        visit.open(page)
        assert visit.link["m"] == model
        assert_shows_the_truth(visit, model)
        assert_has_header_and_recipe(visit)


def test_the_empty_recipe_is_the_original() -> None:
    visit = Visit(m=MODEL, r="[]")
    for page in SOME_PAGES:
        assert_shows_the_truth(visit.open(page))
        assert_has_header_and_recipe(visit)
        assert "empty: the original" in visit.words


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


CHOICES = {
    spec.name: {setting: knob for setting, knob in spec.knobs.items() if isinstance(knob, Choice)}
    for spec in REGISTRY.values()
    if not spec.trains
}


@pytest.mark.parametrize("name", [name for name, choices in CHOICES.items() if choices])
def test_every_option_of_every_choice_draws_a_page(name: str) -> None:
    spec = REGISTRY[name]
    # These have all that can go, an LSTM, and attention.
    special = {"prune_weights": "resnet-8", "low_rank_rnn": "lstm-32", "prune_heads": "transformer-topics"}
    visit = Visit(spec.page, m=special.get(name, SMALL), r=STORY)
    if name != visit.at.session_state["focus"]:
        visit.open_fold(name)
    for setting, knob in CHOICES[name].items():
        shown = {other: values[0] for other, values in knob.when if spec.defaults[other] not in values}
        for option in knob.options:  # type: ignore[attr-defined]
            visit.edit(name, **{**spec.defaults, **shown, setting: option})
            assert option in controls(visit.panel(name))[setting]["options"]
            assert settings(visit.view, name)[setting] == option
            assert visit.tiles["accuracy"] > 0


@pytest.mark.parametrize("page", list(dict.fromkeys(spec.page for spec in REGISTRY.values())))
def test_a_preset_sets_everything_at_once(page: str) -> None:
    needs = {"slim": "mlp-500-300", "zeroq": "mlp-500-300", "low_rank_rnn": "lstm-32"}
    needs |= {"distill": MODEL, "replace_convs": "lenet-5-small", "factor_transfer": "lenet-5"}
    needs |= {"search_design": MODEL, "condense": "resnet-8", "prune_heads": "transformer-topics"}
    visits = dict[str, Visit]()
    for name, spec in REGISTRY.items():
        if spec.page != page:
            continue
        model = needs.get(name, SMALL)
        if model not in visits:
            visits[model] = Visit(page, m=model, r=STORY)
        visit = visits[model]
        if name != visit.at.session_state["focus"]:
            visit.open_fold(name)
        for preset, chosen in spec.presets.items():
            visit.edit(name, **{**spec.defaults, **visit.panel(name)["presets"][preset]["settings"]})
            assert visit.panel(name)["settings"] == {**spec.defaults, **chosen}
        assert_shows_the_truth(visit, model)


@pytest.mark.parametrize("page", SOME_PAGES)
def test_a_step_that_is_not_trained_is_left_out_and_the_strip_offers_to_train_it(page: str) -> None:
    visit = Visit(page, m=MODEL, r='[["distill",{"epochs":2,"subset":600}],["quantize",{"bits":4}]]')
    assert 600 not in [step.settings.get("subset") for step in visit.view]
    assert_shows_the_truth(visit)
    assert_has_header_and_recipe(visit)
    assert visit.at.button(key="train-recipe").label.startswith("Train it again (about ")


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
    change = measure.paired_difference(
        torch.tensor([1, 1, 1, 0]), torch.tensor([1, 0, 0, 0]), torch.ones(4, dtype=torch.int64)
    )
    html = figures.Tile("Change", change, figures.said(change)).html()
    assert '<div class="value">-50.00 points</div>' in html
    assert f"({100 * change.spread[0]:+.2f} to {100 * change.spread[1]:+.2f})" in html


def test_streamlit_says_that_a_run_follows_the_browsers_back_button() -> None:
    """The flag is not of its public interface."""
    from streamlit.runtime.scriptrunner import ScriptRunContext

    assert "is_history_navigation" in ScriptRunContext.__dataclass_fields__
