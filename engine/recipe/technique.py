"""@technique, the knobs and the registry: a function's signature is the whole interface.

One `Annotated` parameter gives the control on the page, the default, the check, the URL
text and the help. A technique is `(bundle, data, *, settings...) -> (Bundle, Report)`;
one that trains also takes `progress`. `engine.recipe.run` calls it; nothing here runs anything.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from engine.types import Bundle, Recipe, SlimscopeError, Step, weight_layers

Bound = float | Callable[[Bundle], float]
When = tuple[str, tuple[object, ...]]  # (another knob, values where this one matters)
MOST_STEPS = 50  # recipes come from links: one of thousands of steps would hold the server up


class SettingError(SlimscopeError):
    """A setting outside of what is allowed; the text has name, value and allowed range."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What every control has: help in one sentence, a unit, where it matters; a `rare` one is folded away."""

    help: str
    unit: str = ""
    label: str = ""
    when: tuple[When, ...] = ()
    rare: bool = False

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        """The value in its own type, or SettingError. Without a bundle, bounds that need one pass."""
        raise NotImplementedError

    def matters(self, settings: Mapping[str, Any]) -> bool:
        """Whether the control is shown, given the other settings."""
        return all(settings[other] in values for other, values in self.when)


@dataclass(frozen=True, kw_only=True)
class Slider(Knob):
    """A number from `low` to `high`; `scale` is `linear`, `log` or `fine` (finer towards the top).

    On a `log` scale that begins at zero, the second stop is a ten-thousandth of `high`.
    """

    low: Bound
    high: Bound
    step: float | None = None
    scale: str = "linear"
    whole: bool = False

    def bounds(self, bundle: Bundle | None) -> tuple[float, float]:
        """(low, high) for this bundle; an unknown bound is infinite."""
        return _bound(self.low, bundle, -math.inf), _bound(self.high, bundle, math.inf)

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        low, high = self.bounds(bundle)
        if not _is_number(value) or not low <= value <= high or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            allowed = f"{kind} from {_text(low)} to {_text(high)} {self.unit}".rstrip()
            raise SettingError(f"{name} is {_shown(value)}: allowed is {allowed}")
        return int(value) if self.whole else float(f"{value:.10g}")

    def stops(self, bundle: Bundle | None) -> list[float]:
        """The values that the slider can be moved to, in order; both ends are among them."""
        low, high = self.bounds(bundle)
        if self.whole or self.step is not None:
            step = self.step or 1
            count = round((high - low) / step)
            values = [low + i * step for i in range(count + 1)]
        elif self.scale == "log":
            first = low or high / 1e4
            values = [first * (high / first) ** (i / 120) for i in range(121)]
        elif self.scale == "fine":
            values = [v for v in FINE if low <= v <= high]
        else:
            values = [low + (high - low) * i / 200 for i in range(201)]
        rounded = [int(v) if self.whole else float(f"{v:.4g}") for v in values]
        return sorted({*rounded, *([int(low), int(high)] if self.whole else [float(low), float(high)])})


# Shares removed: steps of 1 point to 90 %, of 0.5 to 98 %, of 0.1 to 99.9 %.
FINE = (
    [i / 100 for i in range(90)]
    + [0.9 + i / 200 for i in range(16)]
    + [round(0.98 + i / 1000, 3) for i in range(20)]
)


def _bound(bound: Bound, bundle: Bundle | None, unknown: float) -> float:
    if callable(bound):
        return unknown if bundle is None else bound(bundle)
    return bound


def _text(number: float) -> str:
    return f"{number:g}"


def _is_number(value: Any) -> bool:
    """Whether it is a finite number, and a whole one no larger than a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: object) -> str:
    """A value from outside as it stands in a message: at most 40 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists in lists
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True, kw_only=True)
class Choice(Knob):
    """One of a few named options, each with a sentence: {"layer": "each layer by itself"}."""

    options: Mapping[str, str]

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, str) or value not in self.options:
            raise SettingError(f"{name} is {_shown(value)}: allowed is one of {', '.join(self.options)}")
        return value


@dataclass(frozen=True, kw_only=True)
class Toggle(Knob):
    """On or off."""

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, bool):
            raise SettingError(f"{name} is {_shown(value)}: allowed is true or false")
        return value


@dataclass(frozen=True, kw_only=True)
class Layers(Knob):
    """Any of the net's layers, by label."""

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise SettingError(f"{name} is {_shown(value)}: allowed is a list of layer names")
        _known_layers(name, value, bundle)
        return sorted(set(value))


@dataclass(frozen=True, kw_only=True)
class PerLayer(Knob):
    """A table layer -> value that overrides `knob` for the layers it names."""

    knob: Slider

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, Mapping):
            raise SettingError(f'{name} is {_shown(value)}: allowed is a table {{"layer": value}}')
        _known_layers(name, value, bundle)
        return {k: self.knob.check(f"{name}[{k}]", v, bundle) for k, v in sorted(value.items())}


@dataclass(frozen=True, kw_only=True)
class Picks(Knob):
    """Numbered parts of layers, picked one by one: a table layer -> numbers from 0 on."""

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, Mapping):
            raise SettingError(f'{name} is {_shown(value)}: allowed is a table {{"layer": [numbers]}}')
        _known_layers(name, value, bundle)
        for label, numbers in value.items():
            if not isinstance(numbers, list | tuple) or not all(
                type(n) is int and 0 <= n < MOST_PICKS for n in numbers
            ):
                raise SettingError(
                    f"{name}[{label}] is {_shown(numbers)}: allowed is a list of whole numbers from 0 on"
                )
        return {label: sorted(set(numbers)) for label, numbers in sorted(value.items()) if numbers}


MOST_PICKS = 1_000_000


def _known_layers(name: str, labels: Any, bundle: Bundle | None) -> None:
    if bundle is None:
        return
    known = weight_layers(bundle)
    for label in labels:
        if label not in known:
            raise SettingError(f"{name} names layer {_shown(label)}: this net has {', '.join(known)}")


# ---------------------------------------------------------------- the registry


@dataclass(frozen=True)
class Technique:
    """A registered technique: what it is called, where it is shown, and its knobs with defaults."""

    name: str
    title: str
    family: str
    reference: str
    page: str
    pictures: tuple[str, ...]
    about: str
    function: Callable[..., Any]
    knobs: Mapping[str, Knob]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    trains: bool = False
    needs_net: bool = False
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    possible: Callable[[Bundle], object] = lambda bundle: None

    def check(self, settings: Mapping[str, Any], bundle: Bundle | None = None) -> dict[str, Any]:
        """Complete settings in their own types. Raises SettingError."""
        for name in settings:
            if name not in self.knobs:
                raise SettingError(
                    f"{self.name} has no setting {_shown(name)}; it has {', '.join(self.knobs)}"
                )
        merged = {**self.defaults, **settings}
        return {name: knob.check(name, merged[name], bundle) for name, knob in self.knobs.items()}


REGISTRY: dict[str, Technique] = {}


def technique(
    *,
    family: str,
    title: str,
    reference: str,
    page: str,
    pictures: tuple[str, ...] = (),
    needs_net: bool = False,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    possible: Callable[[Bundle], object] = lambda bundle: None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a technique under its own name; the settings are read off its signature.

    `presets` are named settings (`gentle`, `balanced`, `extreme`). `possible` raises SlimscopeError for nets
    that a technique which trains cannot work on, before anything is trained. Raises ValueError for a name
    that is taken, a setting without a knob or without a default, or without a docstring.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in REGISTRY:
            raise ValueError(f"technique {name!r} is registered twice")
        if not function.__doc__:
            raise ValueError(f"technique {name!r} has no docstring")
        knobs, defaults = _read_signature(function)
        trains = "progress" in inspect.signature(function).parameters
        REGISTRY[name] = Technique(
            name=name,
            title=title,
            family=family,
            reference=reference,
            page=page,
            pictures=pictures,
            about=inspect.cleandoc(function.__doc__).split("\n\n")[0].replace("\n", " "),
            function=function,
            knobs=knobs,
            defaults=defaults,
            trains=trains,
            needs_net=needs_net or trains,
            presets=presets or {},
            possible=possible,
        )
        return function

    return register


def _read_signature(function: Callable[..., Any]) -> tuple[dict[str, Knob], dict[str, Any]]:
    hints = get_type_hints(function, include_extras=True)
    knobs: dict[str, Knob] = {}
    defaults: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("bundle", "data", "progress"):
            continue
        hint = hints[name]
        knob = get_args(hint)[1] if get_origin(hint) is Annotated else None
        if not isinstance(knob, Knob) or parameter.default is inspect.Parameter.empty:
            raise ValueError(
                f"{function.__name__}: setting {name!r} needs Annotated[type, Knob] and a default"
            )
        knobs[name] = knob
        defaults[name] = knob.check(name, parameter.default, None)
    return knobs, defaults


def get(name: str) -> Technique:
    """The technique called `name`. Raises SlimscopeError for a stranger."""
    if name not in REGISTRY:
        raise SlimscopeError(f"technique {_shown(name)} is unknown; there are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def step(name: str, /, **settings: Any) -> Step:
    """A complete, checked step.

    >>> import engine.techniques
    >>> step("prune_weights", sparsity=0.5).settings["scope"]
    'model'
    """
    return Step(name, get(name).check(settings))


def complete(recipe: Recipe) -> Recipe:
    """The recipe with every default written and every setting checked, so that its key is canonical.

    Raises SlimscopeError for a stranger's name, a setting that is not allowed, or more than
    MOST_STEPS steps.
    """
    if len(recipe) > MOST_STEPS:
        raise SlimscopeError(f"the recipe has {len(recipe)} steps: allowed are at most {MOST_STEPS}")
    return Recipe(tuple(Step(s.technique, get(s.technique).check(s.settings), s.on) for s in recipe.steps))
