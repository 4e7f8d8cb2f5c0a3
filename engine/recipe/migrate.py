"""Words that settings had once: old links, files, scripts and kept results are read through one table.

A setting that is renamed gets a line in RENAMED. A setting that a technique gets later is declared with
`added=True`: at its default, what was kept without it still counts, and files do not say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.recipe import technique
from engine.types import Recipe, Step


@dataclass(frozen=True)
class Renamed:
    """A setting's old and new name, and its values' if they changed; `flipped`: kept is now removed."""

    old: str
    new: str
    values: Mapping[str, str] = field(default_factory=dict)
    flipped: bool = False

    def forward(self, value: Any) -> Any:
        """An old value in today's words."""
        return _flipped(value) if self.flipped else _found(self.values, value)

    def back(self, value: Any) -> Any:
        """Today's value in old words."""
        return (
            _flipped(value) if self.flipped else _found({new: old for old, new in self.values.items()}, value)
        )


def _flipped(value: Any) -> Any:
    """One minus a share, or each share of a table; anything else is for the setting's check to refuse."""
    if isinstance(value, Mapping):
        return {name: _flipped(share) for name, share in value.items()}
    return float(f"{1 - value:.10g}") if type(value) in (int, float) else value


def _found(words: Mapping[str, str], value: Any) -> Any:
    return words.get(value, value) if isinstance(value, str) else value


GLOBAL = {"model": "global"}
RENAMED: Mapping[str, tuple[Renamed, ...]] = {
    "prune_weights": (Renamed("scope", "allocation", GLOBAL), Renamed("shape", "granularity")),
    "optimal_brain_damage": (Renamed("scope", "allocation", GLOBAL),),
    "prune_iteratively": (Renamed("by", "allocation", GLOBAL),),
    "prune_filters": (
        Renamed("sparsity", "removed"),
        Renamed("allocation", "allocation", GLOBAL),
        Renamed("streams", "residual"),
    ),
    "slim": (Renamed("sparsity", "removed"), Renamed("allocation", "allocation", GLOBAL)),
    "prune_channels": (
        Renamed("kept", "removed", flipped=True),
        Renamed("per_layer", "removed_per_layer", flipped=True),
        Renamed("by", "selection"),
    ),
}


def current(recipe: Recipe) -> Recipe:
    """The recipe in today's words; a setting given in both keeps the new one and is refused for the old.

    Steps that have all settings but those that were added later get these, at their defaults.

    >>> current(Recipe((Step("prune_channels", {"kept": 0.3, "by": "lasso"}),))).key
    '[["prune_channels",{"removed":0.7,"selection":"lasso"}]]'
    """
    return Recipe(tuple(Step(s.technique, _current(s), s.on) for s in recipe))


def _current(step: Step) -> dict[str, Any]:
    settings = dict(step.settings)
    for change in RENAMED.get(step.technique, ()):
        if change.old in settings and (change.new == change.old or change.new not in settings):
            settings[change.new] = change.forward(settings.pop(change.old))
    return {**_added(step.technique, settings), **settings}


def _added(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of what a technique got later, for settings that have all else; the registry may be empty."""
    known = technique.REGISTRY.get(name)
    if known is None or not all(setting in settings or knob.added for setting, knob in known.knobs.items()):
        return {}
    return {setting: known.defaults[setting] for setting, knob in known.knobs.items() if knob.added}


def read(text: str) -> Recipe:
    """A recipe from its text, in today's words and complete. Raises SlimscopeError."""
    return technique.complete(current(Recipe.from_key(text)))


def kept_as(recipe: Recipe) -> str:
    """The text under which results of a complete recipe are kept: it has the words that it always had."""
    return Recipe(tuple(Step(s.technique, _kept_as(s), s.on) for s in recipe)).key


def without_added(recipe: Recipe) -> Recipe:
    """The recipe without settings added later that stand at their defaults; `current` puts them back."""
    return Recipe(tuple(Step(s.technique, _without_added(s), s.on) for s in recipe))


def _without_added(step: Step) -> dict[str, Any]:
    added = _added(step.technique, step.settings)
    return {name: v for name, v in step.settings.items() if name not in added or v != added[name]}


def _kept_as(step: Step) -> dict[str, Any]:
    settings = _without_added(step)
    for change in RENAMED.get(step.technique, ()):
        if change.new in settings:
            settings[change.old] = change.back(settings.pop(change.new))
    return settings
