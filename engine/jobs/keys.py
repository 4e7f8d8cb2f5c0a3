"""Names of data and of results: text that determines what it names, so that nothing is computed twice."""

from __future__ import annotations

import hashlib
import json
import math

import torch

from engine.data import sets as datasets
from engine.data import user
from engine.data.sets import Data
from engine.recipe import migrate
from engine.types import Bundle, Recipe, SlimscopeError

VERSION = 2  # raised when equal recipes would give other numbers than before


def data_spec(name: str, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> str:
    """Bundled data as text, with the net's own standardisation where it has one.

    >>> data_spec("mnist", (0.5,), (0.25,))
    'mnist@0.5/0.25'
    """
    if not mean:
        return name
    return f"{name}@{','.join(f'{m:g}' for m in mean)}/{','.join(f'{s:g}' for s in std)}"


def read_data(spec: str) -> Data | None:
    """The data that `data_spec` named; the empty text (weights without a net) has none.

    Raises SlimscopeError for data that is not bundled, or numbers that do not fit its channels.
    """
    if not spec:
        return None
    if spec.startswith("user:"):
        return user.task(spec.removeprefix("user:"))
    name, _, scale = spec.partition("@")
    found = datasets.load(name)
    if not scale:
        return found
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in scale.split("/"))
    except ValueError:
        raise SlimscopeError(f"data {spec!r} is not readable: write name@mean,.../std,...") from None
    channels = len(found.test.mean)
    if not channels:
        raise SlimscopeError(f"data {spec!r}: {name} are texts, which have no mean and deviation")
    if not len(mean) == len(std) == channels or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise SlimscopeError(
            f"data {spec!r}: {name} needs {channels} means and {channels} positive deviations"
        )
    return found.standardised(mean, std)


def data_key(data: Data | None) -> str:
    """Text that determines what a net sees: the data and its standardisation."""
    return "" if data is None else f"{data.key}-{data.test.mean}-{data.test.std}"


def result_key(kind: str, *what: object) -> str:
    """The key of a result: 40 hex digits of SHA-256 over its kind, what determines it, and versions.

    torch's build (`+cpu`, `+cu130`) is not in it: what was found on one machine serves another.
    """
    return _digest(kind, VERSION, torch.__version__.partition("+")[0], *what)


def _digest(*what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:40]


def of_recipe(kind: str, model: Bundle, recipe: Recipe, data: Data | None, *more: object) -> str:
    """The key of what a recipe makes of a model, judged by this data."""
    return result_key(kind, model.origin.fingerprint, migrate.kept_as(recipe), data_key(data), *more)


def stamp(kind: str, model: Bundle, recipe: Recipe, data: Data | None, *more: object) -> str:
    """As `of_recipe`, for results that come with slimscope: they serve any version of torch."""
    what = (model.origin.fingerprint, migrate.kept_as(recipe), data_key(data), *more)
    return _digest(kind, VERSION, *what)
