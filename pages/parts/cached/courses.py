"""Curves along a setting, and the curves of all techniques."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.jobs import curves
from engine.jobs import fronts as every_front
from engine.recipe import technique
from engine.types import Recipe
from pages.parts.cached.subjects import parts


@st.cache_resource(max_entries=32, show_spinner=False)
def course(subject: str, key: str, number: int, setting: str) -> curves.Course:
    """The curve along a setting of step `number` of a recipe, whose key has the setting at its default."""
    model, spec = parts(subject)
    return curves.course(model, Recipe.from_key(key), spec, number, setting)


def bytes_along(subject: str, recipe: Recipe, setting: str) -> dict[Any, int]:
    """Measured bytes of the recipe's file with other values of its last step's setting: those that are known."""
    if not parts(subject)[1]:
        return {}
    whole, number = technique.complete(recipe), len(recipe)
    of = course(subject, curves.normal(whole, number, setting).key, number, setting)
    rows = curves.known(of, whole.steps[-1].settings[setting])
    return {row["value"]: row["bytes"] for row in rows if row["bytes"] is not None}


def fronts(subject: str) -> tuple[curves.Course, ...]:
    """The curve of each technique by itself."""
    return _fronts(subject, tuple(technique.REGISTRY))


@st.cache_resource(max_entries=4, show_spinner=False)
def _fronts(subject: str, names: tuple[str, ...]) -> tuple[curves.Course, ...]:
    return every_front.courses(*parts(subject))
