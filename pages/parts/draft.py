"""The settings of a panel, between the browser that edits them and the server that knows the recipe. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.recipe import technique
from engine.types import Recipe, Step


@dataclass(frozen=True)
class Draft:
    """What the server knows of a panel's settings.

    The browser numbers its edits 1, 2, 3, ... and sends, each time, every setting that it changed, with the number
    of the setting's last change; so a message that is lost or overtaken costs nothing. `heard` is the newest
    number that was taken. Whatever else changes settings (a button, a link, another model) raises `version`.
    Browser and server follow one rule: the settings are the server's, under the edits that it had not heard of.
    """

    base: str  # who numbers: edits of another session count for nothing
    settings: Mapping[str, Any]
    version: int = 0
    heard: int = 0

    def take(self, edits: object) -> Draft:
        """With the edits that are new in a message from the browser, `{base, seq, set: {name: [value, number]}}`.

        >>> draft = Draft("me", {"bits": 8, "scheme": "symmetric"}).take({"base": "me", "seq": 1, "set": {"bits": [5, 1]}})
        >>> draft.settings["bits"], draft.heard
        (5, 1)
        >>> draft.press({"bits": 8}).take({"base": "me", "seq": 1, "set": {"bits": [5, 1]}}).settings
        {'bits': 8}
        """
        match edits:
            case {"base": self.base, "seq": int(seq), "set": dict(changed)} if seq > self.heard:
                new = {
                    name: pair[0]
                    for name, pair in changed.items()
                    if name in self.settings and _number(pair) in range(self.heard + 1, seq + 1)
                }
                return replace(self, settings={**self.settings, **new}, heard=seq)
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


def edited(recipe: Recipe, name: str, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with settings in its step of this technique, which is switched on, or added where there is none.

    Raises SettingError for a setting that is not allowed.
    """
    place = find(recipe, name)
    if place is None:
        return insert(recipe, technique.step(name, **settings))
    step = Step(name, technique.get(name).check({**recipe.steps[place].settings, **settings}))
    return Recipe((*recipe.steps[:place], step, *recipe.steps[place + 1 :]))
