"""Accuracy against bytes along one setting of a step: which stops to work out, and what lies between them.

Pure: nothing here runs a recipe (`engine.jobs.curves` does). A row is one of a sweep, with the `value` of the
setting; the original's has the value None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from engine.recipe import sweep, technique
from engine.recipe.knobs import Slider
from engine.types import Bundle

ZOOM = 0.15  # of accuracy below the best: what lies deeper is out of use, however deep
MOST_VALUES = 250  # of a slider that a curve is made of

Row = Mapping[str, Any]


def main_setting(name: str, settings: Mapping[str, Any]) -> str | None:
    """The setting that a technique's curve runs along: its first slider that can be seen, or None.

    >>> import engine.techniques
    >>> main_setting("prune_weights", technique.get("prune_weights").defaults)
    'sparsity'
    """
    for setting, knob in technique.get(name).knobs.items():
        if isinstance(knob, Slider) and setting != "seed" and knob.visible(settings):
            return setting
    return None


def values_of(name: str, setting: str, bundle: Bundle) -> list[Any]:
    """The slider's stops in their order; of a slider with more than MOST_VALUES some, evenly spaced."""
    knob = technique.get(name).knobs[setting]
    assert isinstance(knob, Slider)
    stops = [knob.check(setting, stop, bundle) for stop in knob.stops(bundle)]
    if len(stops) <= MOST_VALUES:
        return stops
    return [stops[round(i * (len(stops) - 1) / (MOST_VALUES - 1))] for i in range(MOST_VALUES)]


# ---------------------------------------------------------------- coarse to fine


def next_place(count: int, known: Mapping[int, float | None], most: int) -> int | None:
    """Which of `count` stops to work out next, given the accuracies at some (None: refused there).

    Ends and middle come first, then the middle of the gap where most is unknown: accuracy changes
    across it, or it is wide. Accuracy that is more than ZOOM below the best counts as that far below.
    None where `most` are known, or all.

    >>> next_place(9, {}, 5), next_place(9, {0: 0.9}, 5), next_place(9, {0: 0.9, 8: 0.1}, 5)
    (0, 8, 4)
    >>> next_place(9, {0: 0.9, 4: 0.9, 8: 0.1}, 5)
    6
    """
    if len(known) >= min(most, count):
        return None
    for end in (0, count - 1):
        if end not in known:
            return end
    places = sorted(known)
    seen = [accuracy for accuracy in known.values() if accuracy is not None]
    floor = max(seen, default=0.0) - ZOOM

    def unknown(gap: tuple[int, int]) -> float:
        ends = [max(accuracy, floor) for at in gap if (accuracy := known[at]) is not None]
        change = abs(ends[0] - ends[1]) / ZOOM if len(ends) == 2 else 0.0
        return change + (gap[1] - gap[0]) / count

    gaps = [gap for gap in pairwise(places) if gap[1] - gap[0] > 1]
    widest = max(gaps, key=unknown)
    return sum(widest) // 2


def next_value(values: Sequence[Any], rows: Iterable[Row], most: int) -> Any | None:
    """The value to work out next, or None; values that are no stops of the curve are passed over."""
    place_of = {value: place for place, value in enumerate(values)}
    known = {place_of[row["value"]]: row["accuracy"] for row in rows if row["value"] in place_of}
    place = next_place(len(values), known, most)
    return None if place is None else values[place]


# ---------------------------------------------------------------- between the points


def between(values: Sequence[float], rows: Iterable[Row]) -> list[tuple[float, float]] | None:
    """(bytes, accuracy) at each value: those of its row, or on the line between its neighbours' rows.

    The line is straight in accuracy and in the logarithm of bytes; beyond the outermost rows it is level.
    None where fewer than two rows are known.

    >>> points = ((0.0, 100, 0.9), (1.0, 10_000, 0.7))
    >>> rows = [{"value": value, "bytes": size, "accuracy": accuracy} for value, size, accuracy in points]
    >>> [(round(size), round(accuracy, 3)) for size, accuracy in between([0.0, 0.5, 1.0], rows)]
    [(100, 0.9), (1000, 0.8), (10000, 0.7)]
    """
    known = sorted((r for r in rows if is_point(r)), key=lambda row: row["value"])
    if len(known) < 2:
        return None
    at = [row["value"] for row in known]
    sizes = np.exp(np.interp(values, at, np.log([row["bytes"] for row in known])))
    accuracies = np.interp(values, at, [row["accuracy"] for row in known])
    exact = {row["value"]: (float(row["bytes"]), float(row["accuracy"])) for row in known}
    estimates = zip(values, sizes.tolist(), accuracies.tolist(), strict=True)
    return [exact.get(value, (size, accuracy)) for value, size, accuracy in estimates]


def is_point(row: Row) -> bool:
    """Whether it is a point of the curve: not the original, and not refused."""
    return row["value"] is not None and row["accuracy"] is not None


# ---------------------------------------------------------------- what the points say of each other


def is_tie(row: Row) -> bool:
    """Whether the sample can't tell it from the original: the paired interval of the change holds zero."""
    return bool(row["change_low"] <= 0 <= row["change_high"])


def ranks(rows: Sequence[Row]) -> list[str]:
    """What each row is: `original`, `dominated` by a row that is smaller and as accurate, `tie` or `front`.

    Raises nothing for rows that were refused: they are `refused`.
    """
    ran = [row for row in rows if row["accuracy"] is not None]
    best = iter(sweep.front([row["bytes"] for row in ran], [row["accuracy"] for row in ran]))

    def rank(row: Row) -> str:
        if row["accuracy"] is None:
            return "refused"
        is_best = next(best)
        if row["value"] is None:
            return "original"
        return "dominated" if not is_best else "tie" if is_tie(row) else "front"

    return [rank(row) for row in rows]
