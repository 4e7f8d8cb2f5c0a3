"""Steps and recipes: which techniques are applied, with which settings, as JSON data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.types.figures import SlimscopeError


def frozen(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings as they come back from JSON, read-only, so that equal text is an equal step."""
    plain = json.loads(json.dumps(dict(settings), default=_plain, allow_nan=False))
    return MappingProxyType(plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"a setting must be plain data (numbers, text, lists, tables), got {type(value).__name__}"
    )


@dataclass(frozen=True)
class Step:
    """One technique with its settings, as pure data; `on=False` keeps it in the recipe, unused.

    >>> Step("prune_weights", {"sparsity": 0.9}).key
    '["prune_weights",{"sparsity":0.9}]'
    """

    technique: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", frozen(self.settings))

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Step, (self.technique, dict(self.settings), self.on))

    @property
    def data(self) -> list[Any]:
        """The step as a JSON list: name, settings, and `false` where it is switched off."""
        return [self.technique, dict(self.settings), *([] if self.on else [False])]

    @property
    def key(self) -> str:
        """Canonical text; equal steps have equal keys."""
        return json.dumps(self.data, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they are applied; the empty recipe is the original net.

    `engine.recipe.technique.complete` writes every default into the steps, so that the key of
    a recipe does not depend on what was left unsaid.

    >>> r = Recipe((Step("prune_weights", {"sparsity": 0.9}),))
    >>> Recipe.from_key(r.key) == r
    True
    """

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Recipe:
        """This recipe with one more step at its end."""
        return Recipe((*self.steps, step))

    @property
    def live(self) -> Recipe:
        """The recipe without the steps that are switched off: what is really applied."""
        return Recipe(tuple(s for s in self.steps if s.on))

    @property
    def key(self) -> str:
        """Canonical JSON text, used as URL state, cache key and caption."""
        return "[" + ",".join(s.key for s in self.steps) + "]"

    @classmethod
    def from_key(cls, text: str) -> Recipe:
        """Read a recipe back from its key. Only JSON is read, nothing is evaluated.

        Raises SlimscopeError where the text is not a list of [name, settings] pairs, or holds what
        no setting may be: numbers that are not finite or too long, text that UTF-8 can't write.
        """
        raw = _json_from(text)
        if not isinstance(raw, list):
            raise SlimscopeError(f"a recipe is a list of [technique, settings], got {type(raw).__name__}")
        try:
            return cls(tuple(_step_from(item) for item in raw))
        except RecursionError:  # a step is read a few calls deeper than its text
            raise SlimscopeError(f"recipe {text[:80]!r} is nested too deeply") from None

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


def _json_from(text: str) -> object:
    """The data in a recipe's text, safe to be written again as JSON in UTF-8."""
    try:
        raw = json.loads(text, parse_constant=_no_constant)
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()
    except (json.JSONDecodeError, RecursionError) as error:
        raise SlimscopeError(f"recipe {text[:80]!r} is not JSON: {error}") from None
    except UnicodeEncodeError:
        raise SlimscopeError(f"recipe {text[:80]!r} holds half of a surrogate pair") from None
    except ValueError:  # 1e999, or an integer with more digits than Python converts
        raise SlimscopeError(f"recipe {text[:80]!r} holds a number that is not finite or too long") from None
    return raw


def _no_constant(name: str) -> None:
    raise SlimscopeError(f"a recipe holds {name}: allowed are finite numbers")


def _step_from(item: object) -> Step:
    match item:
        case [str(name), dict(settings)]:
            return Step(name, settings)
        case [str(name), dict(settings), bool(on)]:
            return Step(name, settings, on)
    raise SlimscopeError(f'a step is ["technique", {{settings}}], got {json.dumps(item)[:80]}')
