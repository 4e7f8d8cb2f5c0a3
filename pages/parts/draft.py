"""What a visitor has in hand: settings between browser and server, steps that are tried, the recipe. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.recipe import technique
from engine.types import Recipe, Step


@dataclass(frozen=True)
class Draft:
    """What the server knows of a panel's settings.

    The browser numbers its edits 1, 2, 3, ... and sends, each time, every setting that it changed, with the number
    of the setting's last change; so a message that is lost or overtaken costs nothing. `acknowledged` is the newest
    number that was taken. Whatever else changes settings (a button, a link, another model) raises `version`.
    Browser and server follow one rule: the settings are the server's, under the edits that it had not heard of.
    """

    base: str  # who numbers: edits of another session count for nothing
    settings: Mapping[str, Any]
    version: int = 0
    acknowledged: int = 0

    def take(self, edits: object) -> Draft:
        """With the edits that are new in a message from the browser, `{base, seq, set: {name: [value, number]}}`.

        >>> draft = Draft("me", {"bits": 8, "scheme": "symmetric"}).take({"base": "me", "seq": 1, "set": {"bits": [5, 1]}})
        >>> draft.settings["bits"], draft.acknowledged
        (5, 1)
        >>> draft.press({"bits": 8}).take({"base": "me", "seq": 1, "set": {"bits": [5, 1]}}).settings
        {'bits': 8}
        """
        match edits:
            case {"base": self.base, "seq": int(seq), "set": dict(changed)} if seq > self.acknowledged:
                new = {
                    name: pair[0]
                    for name, pair in changed.items()
                    if name in self.settings and _number(pair) in range(self.acknowledged + 1, seq + 1)
                }
                return replace(self, settings={**self.settings, **new}, acknowledged=seq)
        return self

    def press(self, settings: Mapping[str, Any]) -> Draft:
        """After something else than the browser's own controls has set everything."""
        return replace(self, settings=dict(settings), version=self.version + 1)


def _number(pair: object) -> object:
    """The number of an edit; None where it is none."""
    return pair[1] if isinstance(pair, list) and len(pair) == 2 and type(pair[1]) is int else None


# ---------------------------------------------------------------- the step that a panel edits


def find(recipe: Recipe, name: str) -> int | None:
    """Position of the last step of this technique."""
    places = [i for i, s in enumerate(recipe) if s.technique == name]
    return places[-1] if places else None


def current(recipe: Recipe, name: str) -> Step:
    """The recipe's own step of this technique, or one with the defaults."""
    place = find(recipe, name)
    return technique.step(name) if place is None else recipe.steps[place]


def insert(recipe: Recipe, step: Step) -> Recipe:
    """The recipe with a new step at its natural place, before the first step that usually follows it."""
    stage = technique.get(step.technique).stage
    later = [i for i, s in enumerate(recipe) if technique.get(s.technique).stage > stage]
    place = later[0] if later else len(recipe)
    return Recipe((*recipe.steps[:place], step, *recipe.steps[place:]))


@dataclass(frozen=True)
class Trial:
    """A step that a page tries and that nobody has kept yet: alone against the original, or `inside` the recipe.

    `place` is the recipe's step that it stands for; None: the last of its technique, or a new one.
    """

    step: Step
    inside: bool = False
    place: int | None = None


def placed(recipe: Recipe, trial: Trial) -> tuple[Recipe, int]:
    """The recipe with a trial's step at its place, and the place.

    >>> recipe = Recipe((technique.step("quantize"),))
    >>> whole, place = placed(recipe, Trial(technique.step("prune_weights")))
    >>> [step.technique for step in whole], place
    (['prune_weights', 'quantize'], 0)
    """
    step, place = trial.step, trial.place
    if place is None or place >= len(recipe) or recipe.steps[place].technique != step.technique:
        place = find(recipe, step.technique)
    if place is None:
        whole = insert(recipe, step)
        place = find(whole, step.technique)
        assert place is not None
        return whole, place
    return Recipe((*recipe.steps[:place], step, *recipe.steps[place + 1 :])), place


def seen(recipe: Recipe, trial: Trial) -> tuple[Recipe, int]:
    """What a trial looks at, and where its step stands in it: the step alone, or the recipe with it."""
    return placed(recipe, trial) if trial.inside else (Recipe((trial.step,)), 0)


@dataclass(frozen=True)
class Work:
    """All that can be taken back: the model in view, the recipe kept for each model, and what pages try on them."""

    model: str
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    trials: Mapping[tuple[str, str], Trial] = field(default_factory=dict)  # (model, technique)

    def keep(self, recipe: Recipe) -> Work:
        """With this recipe for the model in view."""
        return replace(self, recipes={**self.recipes, self.model: recipe})

    def moved(self, order: list[int]) -> Work:
        """With the trials on the model in view at the places that their steps have in a new order; without those
        of steps that are not in it."""
        kept = {}
        for key, trial in self.trials.items():
            if key[0] != self.model or trial.place is None:
                kept[key] = trial
            elif trial.place in order:
                kept[key] = replace(trial, place=order.index(trial.place))
        return replace(self, trials=kept)

    def attempt(self, trial: Trial) -> Work:
        """With this trial of its technique on the model in view."""
        return replace(self, trials={**self.trials, (self.model, trial.step.technique): trial})
