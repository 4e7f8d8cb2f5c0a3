"""Many recipes as rows: which to try, which of them are best, and which can't be told apart.

Pure: nothing here runs a recipe or measures anything (`engine.jobs.scans` does). A row is plain
data with at least `recipe`, `bytes`, `accuracy` and the interval `low`..`high`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from engine.recipe import technique
from engine.types import Recipe, SlimscopeError, Step

MOST = 400  # recipes in one sweep

Row = Mapping[str, Any]


def variations(
    recipe: Recipe, step_number: int, vary: Mapping[str, Sequence[Any]]
) -> list[tuple[dict[str, Any], Recipe]]:
    """The grid over one or two settings of a step: [(those settings, complete recipe)], no two alike.

    Steps are counted from 1 in the recipe as it stands; the last setting changes fastest.
    Raises SlimscopeError for a step or setting that is not there, a value out of range, or
    more than MOST recipes.

    >>> import engine.techniques
    >>> start = Recipe((Step("prune_weights"),))
    >>> [chosen for chosen, _ in variations(start, 1, {"sparsity": [0.5, 0.9]})]
    [{'sparsity': 0.5}, {'sparsity': 0.9}]
    """
    step = _step(recipe, step_number)
    if not 1 <= len(vary) <= 2 or not all(len(values) for values in vary.values()):
        raise SlimscopeError(f"a sweep varies {len(vary)} settings: allowed is 1 or 2, each with a value")
    grid = list(product(*vary.values()))
    if len(grid) > MOST:
        raise SlimscopeError(f"this sweep has {len(grid)} recipes: allowed is at most {MOST}")
    whole = technique.complete(recipe)
    found: dict[str, tuple[dict[str, Any], Recipe]] = {}
    for values in grid:
        settings = technique.get(step.technique).check(
            {**step.settings, **dict(zip(vary, values, strict=True))}
        )
        changed = Step(step.technique, settings)
        steps = (*whole.steps[: step_number - 1], changed, *whole.steps[step_number:])
        found.setdefault(Recipe(steps).key, ({name: settings[name] for name in vary}, Recipe(steps)))
    return list(found.values())


def tolerated(rows: Iterable[Row], values: Sequence[Any], bearable: float) -> dict[str, Any]:
    """Layer -> the harshest setting that it tolerates alone; a layer that tolerates none is not in it.

    `rows` are those of a sensitivity scan: layer, value, change (of accuracy, as a share). `values` stand
    from gentle to harsh: a layer tolerates one if neither it nor any gentler one costs more than `bearable`.
    (Han et al. 2015, arXiv 1506.02626, section 5)

    >>> found = ((0.5, 0.001), (0.8, -0.009), (0.9, -0.1))
    >>> rows = [{"layer": "fc", "value": value, "change": change} for value, change in found]
    >>> tolerated(rows, [0.5, 0.8, 0.9], 0.01), tolerated(rows, [0.5, 0.8, 0.9], 0.2)
    ({'fc': 0.8}, {'fc': 0.9})
    """
    change = {(row["layer"], row["value"]): row["change"] for row in rows}
    found: dict[str, Any] = {}
    for layer in dict.fromkeys(layer for layer, _ in change):
        for value in values:
            cost = change.get((layer, value))
            if cost is None or cost < -bearable:
                break
            found[layer] = value
    return found


def _step(recipe: Recipe, number: int) -> Step:
    if not 1 <= number <= len(recipe):
        raise SlimscopeError(f"step {number} is not in this recipe: it has {len(recipe)} steps")
    step = recipe.steps[number - 1]
    if not step.on:
        raise SlimscopeError(f"step {number} ({step.technique}) is switched off: switch it on to vary it")
    return step


# ---------------------------------------------------------------- what is best


def front(sizes: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """Which points nothing beats: no other is as small and as accurate, and better in one of the two.

    Equal points are on the front together.

    >>> front([10, 20, 20, 30], [0.8, 0.9, 0.9, 0.85])
    [True, True, True, False]
    """
    return [best is None for best in dominators(sizes, accuracies)]


def dominators(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int | None]:
    """For each point, who beats it: the smallest of the most accurate points of its size or less.

    None on the front. Whoever beats a point is on the front itself.
    """
    size, accuracy = np.asarray(sizes, float), np.asarray(accuracies, float)
    order = np.lexsort((-accuracy, size))  # by size, the most accurate first
    found: list[int | None] = [None] * len(size)
    best: int | None = None
    for i in order.tolist():
        if best is None or accuracy[i] > accuracy[best]:
            best = i
        elif accuracy[i] < accuracy[best] or size[i] > size[best]:
            found[i] = best
    return found


def ties(sizes: Sequence[float], accuracies: Sequence[float], spreads: Sequence[Any]) -> list[int | None]:
    """For each point, the smallest other point of its size or less that it can't be told from, or None.

    Two points tie where each one's accuracy lies in the other's interval (low, high): the
    sample is too small to prefer the larger file.

    >>> ties([10, 20, 30], [0.90, 0.91, 0.99], [(0.88, 0.92), (0.89, 0.93), (0.98, 1.0)])
    [None, 0, None]
    """
    size, accuracy = np.asarray(sizes, float), np.asarray(accuracies, float)
    low, high = np.asarray([(s[0], s[1]) for s in spreads], float).reshape(-1, 2).T
    found: list[int | None] = []
    for i in range(len(size)):
        near = (low <= accuracy[i]) & (accuracy[i] <= high) & (low[i] <= accuracy) & (accuracy <= high[i])
        near &= size <= size[i]
        near[i] = False
        rows = np.flatnonzero(near)
        found.append(int(rows[np.argmin(size[rows])]) if len(rows) else None)
    return found


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows with what they say of each other: `pareto`, `dominated_by` and `tied_with`.

    The last two name a recipe, or are empty. Rows whose recipe was refused (`refused` says
    why) stay in the table and take no part in the comparison.
    """
    whole = pd.DataFrame([dict(row) for row in rows])
    if whole.empty:
        return pd.DataFrame(columns=["recipe", "bytes", "accuracy", "pareto", "dominated_by", "tied_with"])
    ran = whole["accuracy"].notna()
    points = whole[ran]
    names = points["recipe"].tolist()
    sizes, accuracies = points["bytes"].tolist(), points["accuracy"].tolist()
    spreads = list(zip(points["low"], points["high"], strict=True))
    beaten, tied = dominators(sizes, accuracies), ties(sizes, accuracies, spreads)
    whole["pareto"] = False
    whole.loc[ran, "pareto"] = [best is None for best in beaten]
    whole["dominated_by"] = _named(ran, names, beaten)
    whole["tied_with"] = _named(ran, names, tied)
    return whole


def _named(ran: pd.Series[bool], names: list[str], chosen: list[int | None]) -> list[str]:
    found = iter(["" if i is None else names[i] for i in chosen])
    return [next(found) if ok else "" for ok in ran]
