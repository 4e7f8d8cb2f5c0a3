"""The knobs: what a setting may be, how it is checked, and where its control can stand.

One `Annotated` parameter of a technique gives the control on the page, the default, the check, the
URL text and the help.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.types import Bundle, SlimscopeError, weight_layers

Bound = float | Callable[[Bundle], float]
When = tuple[str, tuple[object, ...]]  # (another knob, values where this one matters)


class SettingError(SlimscopeError):
    """A setting outside of what is allowed; the text has name, value and allowed range."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What every control has: help in one sentence, a unit, where it matters.

    An `advanced` one is folded away. One that was `added` to a technique later changes nothing at its
    default, so that what was kept without it still counts. One that `redraws` changes pictures that stay
    while other sliders move.
    """

    help: str
    unit: str = ""
    label: str = ""
    when: tuple[When, ...] = ()
    advanced: bool = False
    added: bool = False
    redraws: bool = False

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        """The value in its own type, or SettingError. Without a bundle, bounds that need one pass."""
        raise NotImplementedError

    def visible(self, settings: Mapping[str, Any]) -> bool:
        """Whether the control is shown, given the other settings."""
        return all(settings[other] in values for other, values in self.when)


@dataclass(frozen=True, kw_only=True)
class Slider(Knob):
    """A number from `low` to `high`; `scale` is `linear`, `log` or `fine` (finer towards the top).

    On a `log` scale that begins at zero, the second stop is a ten-thousandth of `high`, for whole
    numbers 1.
    `percent` says that people read the number as per cent: 0.25 is written 25 %.

    >>> Slider(help="", low=2, high=64, scale="log", whole=True).stops(None)[:6]
    [2, 3, 4, 5, 6, 7]
    >>> Slider(help="", low=0, high=1000, scale="log", whole=True).stops(None)[-3:]
    [891, 944, 1000]
    """

    low: Bound
    high: Bound
    step: float | None = None
    scale: str = "linear"
    whole: bool = False
    percent: bool = False

    def bounds(self, bundle: Bundle | None) -> tuple[float, float]:
        """(low, high) for this bundle; an unknown bound is infinite."""
        return _bound(self.low, bundle, -math.inf), _bound(self.high, bundle, math.inf)

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        low, high = self.bounds(bundle)
        if not _is_number(value) or not low <= value <= high or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            allowed = f"{kind} from {_text(low)} to {_text(high)} {self.unit}".rstrip()
            raise SettingError(f"{name} is {shown(value)}: allowed is {allowed}")
        return int(value) if self.whole else float(f"{value:.10g}")

    def stops(self, bundle: Bundle | None) -> list[float]:
        """The values that the slider can be moved to, in order; both ends are among them."""
        low, high = self.bounds(bundle)
        if self.step is not None or (self.whole and self.scale == "linear"):
            step = self.step or 1
            count = round((high - low) / step)
            values = [low + i * step for i in range(count + 1)]
        elif self.scale == "log":
            first = low or (1.0 if self.whole else high / 1e4)
            values = [first * (high / first) ** (i / 120) for i in range(121)]
        elif self.scale == "fine":
            values = [v for v in FINE if low <= v <= high]
        else:
            values = [low + (high - low) * i / 200 for i in range(201)]
        rounded = [round(v) if self.whole else float(f"{v:.4g}") for v in values]
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


def shown(value: object) -> str:
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
            raise SettingError(f"{name} is {shown(value)}: allowed is one of {', '.join(self.options)}")
        return value


@dataclass(frozen=True, kw_only=True)
class Toggle(Knob):
    """On or off."""

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, bool):
            raise SettingError(f"{name} is {shown(value)}: allowed is true or false")
        return value


@dataclass(frozen=True, kw_only=True)
class Layers(Knob):
    """Any of the net's layers, by label."""

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise SettingError(f"{name} is {shown(value)}: allowed is a list of layer names")
        _known_layers(name, value, bundle)
        return sorted(set(value))


@dataclass(frozen=True, kw_only=True)
class PerLayer(Knob):
    """A table layer -> value that overrides `knob` for the layers it names."""

    knob: Slider

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, Mapping):
            raise SettingError(f'{name} is {shown(value)}: allowed is a table {{"layer": value}}')
        _known_layers(name, value, bundle)
        return {k: self.knob.check(f"{name}[{k}]", v, bundle) for k, v in sorted(value.items())}


@dataclass(frozen=True, kw_only=True)
class Picks(Knob):
    """Numbered parts of layers, picked one by one: a table layer -> numbers from 0 on."""

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, Mapping):
            raise SettingError(f'{name} is {shown(value)}: allowed is a table {{"layer": [numbers]}}')
        _known_layers(name, value, bundle)
        for label, numbers in value.items():
            if not isinstance(numbers, list | tuple) or not all(
                type(n) is int and 0 <= n < MOST_PICKS for n in numbers
            ):
                raise SettingError(
                    f"{name}[{label}] is {shown(numbers)}: allowed is a list of whole numbers from 0 on"
                )
        return {label: sorted(set(numbers)) for label, numbers in sorted(value.items()) if numbers}


@dataclass(frozen=True, kw_only=True)
class Entries(Knob):
    """Values of numbered entries of layers' tables: layer -> {number from 0 to `most` - 1: value}.

    >>> Entries(help="", most=4).check("by_hand", {"fc1": {2: 1, "0": 0.5}}, None)
    {'fc1': {'0': 0.5, '2': 1.0}}
    """

    most: int

    def check(self, name: str, value: Any, bundle: Bundle | None) -> Any:
        if not isinstance(value, Mapping):
            raise SettingError(f'{name} is {shown(value)}: allowed is a table {{"layer": {{number: value}}}}')
        _known_layers(name, value, bundle)
        checked = {label: self._entries(f"{name}[{label}]", own) for label, own in sorted(value.items())}
        return {label: own for label, own in checked.items() if own}

    def _entries(self, name: str, entries: Any) -> dict[str, float]:
        numbers = {str(number) for number in range(self.most)}
        if not isinstance(entries, Mapping) or not all(
            str(n) in numbers and _is_number(v) and abs(v) < LARGEST_ENTRY for n, v in entries.items()
        ):
            allowed = f"a table {{whole number from 0 to {self.most - 1}: number}}"
            raise SettingError(f"{name} is {shown(entries)}: allowed is {allowed}")
        return {str(n): float(f"{v:.10g}") for n, v in sorted(entries.items(), key=lambda own: int(own[0]))}


LARGEST_ENTRY = 1e12  # the largest that a packed file may hold
MOST_PICKS = 1_000_000


def _known_layers(name: str, labels: Any, bundle: Bundle | None) -> None:
    if bundle is None:
        return
    known = weight_layers(bundle)
    for label in labels:
        if label not in known:
            raise SettingError(f"{name} names layer {shown(label)}: this model has {', '.join(known)}")
