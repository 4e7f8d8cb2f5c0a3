"""Settings, steps and recipes in words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from engine.recipe import technique
from engine.recipe.knobs import Knob, Slider
from engine.recipe.technique import Technique
from engine.types import Recipe, Step
from pages.parts import link


def said(known: Technique, settings: Mapping[str, Any]) -> str:
    """Settings in words: "sparsity 90 %, score random"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {written(known.knobs[name], value)}" for name, value in settings.items()
    )


def written(knob: Knob, value: Any) -> str:
    """A value as people read it: in per cent where its knob says so."""
    if isinstance(knob, Slider) and isinstance(value, int | float):
        return f"{100 * value:.4g} %" if knob.percent else f"{value:g}"
    if isinstance(value, dict):
        return f"for {len(value)} layers"
    return "/".join(value) if isinstance(value, list) else str(value)


def main(knob: Knob, value: Any) -> str:
    """A step's main setting behind its title: "90 %", "8 bits", "nf4", "temperature 4"."""
    number = written(knob, value)
    if not isinstance(knob, Slider):
        return number
    if isinstance(knob, Slider) and (knob.percent or (knob.unit and " " not in knob.unit)):
        return number if knob.percent else f"{number} {knob.unit}"
    return f"{knob.label.lower()} {number}"


def title(step: Step) -> str:
    """A step with the value of its main setting.

    >>> title(technique.step("prune_weights", sparsity=0.8))
    'Prune weights 80 %'
    >>> title(technique.step("number_format", number="nf4"))
    'Number format nf4'
    """
    known = technique.get(step.technique)
    setting = known.main(step.settings)
    return (
        known.title
        if setting is None
        else f"{known.title} {main(known.knobs[setting], step.settings[setting])}"
    )


def changed(step: Step) -> str:
    """The settings of a step that are not its defaults."""
    some = link.brief(Recipe((step,))).steps[0].settings
    return said(technique.get(step.technique), some) or "all settings at their defaults"


def state(recipe: Recipe) -> str:
    """The steps that all figures of a page include, as HTML behind the model's name.

    >>> state(Recipe((technique.step("quantize"),)))
    ' + Quantize 8 bits'
    """
    return "".join(f" + {escape(title(step))}" for step in recipe.live) or ", the original"
