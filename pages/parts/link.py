"""Recipes and steps as the text of a link: short, and bounded when it is read. Nothing in it is evaluated."""

from __future__ import annotations

import base64
import zlib

from engine.recipe import migrate, technique
from engine.types import Recipe, SlimscopeError, Step
from pages.parts.draft import Trial

LONGEST = 65_536  # bytes of recipe text that a link may unfold to
DIGITS = 3  # of a place in a recipe
PLAIN = 400  # longer recipes are compressed


def brief(recipe: Recipe) -> Recipe:
    """The recipe without the settings that are at their defaults: what a link needs to carry."""
    return Recipe(
        tuple(
            Step(s.technique, {k: v for k, v in s.settings.items() if v != _defaults(s)[k]}, s.on)
            for s in recipe
        )
    )


def _defaults(step: Step) -> dict[str, object]:
    return dict(technique.get(step.technique).defaults)


def written(recipe: Recipe) -> str:
    """The text of a recipe; a long one is compressed."""
    text = brief(recipe).key
    if len(text) <= PLAIN:
        return text
    return "z" + base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def read(text: str) -> Recipe:
    """The recipe of a text, complete. Raises SlimscopeError for one that is damaged, or not allowed."""
    return migrate.read(_unfold(text[1:]) if text.startswith("z") else text)


def _unfold(text: str) -> str:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unfold = zlib.decompressobj()
        plain = unfold.decompress(packed, LONGEST)
        if unfold.unconsumed_tail or not unfold.eof:
            raise SlimscopeError(f"it unfolds to more than {LONGEST} bytes or is cut off")
        return plain.decode()
    except (ValueError, zlib.error) as error:
        raise SlimscopeError(f"it is damaged ({error})") from None


def written_trial(trial: Trial) -> tuple[str, str | None]:
    """The text of a trial's step, and its place: None alone, "new" or a position in the recipe."""
    place = "new" if trial.place is None else str(trial.place)
    return written(Recipe((trial.step,))), place if trial.inside else None


def read_trial(text: str, place: str | None, name: str) -> Trial | None:
    """The trial of a technique that a link brings; None where it brings one of another.

    Raises SlimscopeError for a step that can't be read, and for a place that is neither "new" nor a number.
    """
    steps = read(text).steps
    if len(steps) != 1 or steps[0].technique != name:
        return None
    is_number = place is not None and place.isascii() and place.isdecimal() and len(place) <= DIGITS
    if place not in (None, "new") and not is_number:
        raise SlimscopeError(f"the place {place[:20]!r} of the step is neither a number nor 'new'")
    at = int(place) if place is not None and is_number else None
    return Trial(Step(name, steps[0].settings), place is not None, at)
