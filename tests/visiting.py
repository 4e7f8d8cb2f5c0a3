"""One visitor of the real app without a browser, and what the engine says that a page has to show."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from driving import panels, report_edits
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import count, measure
from engine.file import packfile
from engine.jobs import openings, shipped
from engine.net import zoo
from engine.recipe import starts, technique
from engine.recipe.run import run
from engine.types import Bundle, Recipe
from pages.parts import cached, menu
from pages.parts.draft import Trial, Work, seen

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(entry.name for entry in menu.of_files())
MODEL = "lenet-300-100"
SMALL = "mlp-32"
STORY = technique.complete(starts.recipe(MODEL)).key
PRUNED = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]')).key
SOME_PAGES = ("overview", "prune", "quantize", "filters", "low_rank")
MOVES = (
    ("prune", "prune_weights", "sparsity", 0.95),
    ("prune", "prune_weights", "sparsity", 0.9825),
    ("quantize", "quantize", "bits", 3),
    ("quantize", "quantize", "granularity", "tensor"),
    ("low_rank", "low_rank", "energy", 0.8),
)


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
            Trial(openings.opening(model, focus), technique.get(focus).mends) if focus else None
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


def assert_has_header_and_recipe(visit: Visit) -> None:
    assert 'class="tiles"' in visit.html
    assert "**My recipe**" in visit.words
    assert visit.at.button(key="undo") is not None


def settings(recipe: Recipe, name: str) -> Mapping[str, Any]:
    return next(step.settings for step in recipe if step.technique == name)


def upload(visit: Visit, name: str, content: bytes) -> Visit:
    visit.at.file_uploader[0].set_value((name, content, "application/octet-stream"))
    return visit.run()


def weights() -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in zoo.load(SMALL).state().items()}


def session_files(visit: Visit) -> dict[str, Any]:
    return dict(visit.at.session_state["files"])
