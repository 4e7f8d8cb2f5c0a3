"""Bits of layers by evolution: NSGA-II on measured accuracy and real bytes, beside the exact solver.

Each design is a `quantize` step with bits of its own for each layer, measured and kept like a point of a
sweep. Optuna, which has the algorithm, is an extra: `why_not` says how to get it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from engine.figures import mixed_bits
from engine.jobs import curves, keys, models, recipes, scans, testset
from engine.recipe import migrate, technique
from engine.recipe.run import apply
from engine.types import Progress, SlimscopeError, Step

EXACT, TRIED = "exact", "tried"
BUDGETS = 9  # of the exact solver's front
MOST_TRIALS = 500
POPULATION = 20
SHARED = ("granularity", "range", "leave_out")  # settings of mixed precision that `quantize` has, too

Bits = Mapping[str, int]
Row = dict[str, Any]


def why_not() -> str:
    """How to install what is missing for the search; nothing where it is there."""
    if importlib.util.find_spec("optuna") is not None:
        return ""
    return "The search needs Optuna, which is not installed: `pip install 'slimscope[search]'` brings it."


def evolve(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Search bits for each layer on validation samples; every design is a row, the exact solver's first.

    Payload: model, recipe (key, followed first), data (spec), settings (of mixed_precision), trials, seed.
    Each row: kind (EXACT or TRIED), number, bits {layer: bits}, recipe, bytes, accuracy low..high of n, and
    the paired change to the original. The same seed gives the same rows. Raises SlimscopeError without
    Optuna.
    """
    if why_not():
        raise SlimscopeError(why_not())
    trials, seed = payload["trials"], payload["seed"]
    if type(trials) is not int or not 1 <= trials <= MOST_TRIALS:
        raise SlimscopeError(f"trials is {trials!r}: allowed is a whole number from 1 to {MOST_TRIALS}")
    data = testset.needed(keys.read_data(payload["data"]))
    model, prefix = models.get_model(payload["model"], payload["data"]), migrate.read(payload["recipe"]).live
    settings = {**payload["settings"], "limit": "bytes"}
    start = recipes.make(model, prefix, data, Progress(cancelled=progress.cancelled))[0]
    told = apply(start, Step("mixed_precision", settings), data)[1].tables["widths"]
    sample = data.validation.stratified(min(scans.SAMPLES, curves.sample_size(model, data)))
    measure = scans.measuring(model, technique.complete(prefix), data, sample, progress)
    exact, rows = exact_designs(told), list[Row]()
    whole = len(exact) + trials

    def row_of(kind: str, number: int, bits: Bits) -> Row:
        own = {name: settings[name] for name in SHARED if name in settings}
        recipe = technique.complete(prefix.then(Step("quantize", {**own, "per_layer": dict(bits)})))
        part = progress.part(len(rows) / whole, len(rows) / whole, recipes.untold)
        key = scans.point_key(model, recipe, data, len(sample))
        found = curves.waited(key, recipe, lambda: measure(recipe, part), part)
        if found["refused"]:
            raise SlimscopeError(found["refused"])
        rows.append({"kind": kind, "number": number, "bits": dict(bits), **found, "recipe": recipe.key})
        progress(len(rows) / whole, {k: v for k, v in rows[-1].items() if k not in ("bits", "refused")})
        return rows[-1]

    for number, bits in enumerate(exact):
        row_of(EXACT, number, bits)
    for number, bits, tell in proposals(told, trials, seed):
        found = row_of(TRIED, number, bits)
        tell(found["bytes"], found["accuracy"])
    return {"rows": rows, "how": scans.HOW, "seed": seed}


def exact_designs(told: pd.DataFrame) -> list[Bits]:
    """What the exact solver deals under BUDGETS budgets, evenly spaced from the least bytes to the most."""
    ends = mixed_bits.least(told), int(told.groupby("layer")["bytes"].max().sum())
    dealt = [dict(mixed_bits.deal(told, int(budget)).bits) for budget in np.linspace(*ends, BUDGETS)]
    return [bits for place, bits in enumerate(dealt) if bits not in dealt[:place]]


Tell = Callable[[float, float], None]  # bytes and accuracy of a proposal


def proposals(
    told: pd.DataFrame, trials: int, seed: int, population: int = POPULATION
) -> Iterator[tuple[int, Bits, Tell]]:
    """(number, bits, whom to tell their bytes and accuracy) of one design after the other, by NSGA-II.

    Each must be told before the next is drawn. (Deb et al. 2002, A fast and elitist multiobjective genetic
    algorithm)
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    widths: Sequence[int] = sorted(told["bits"].unique().tolist())
    layers = list(dict.fromkeys(told["layer"]))
    for number in range(trials):
        trial = study.ask()
        chosen = {layer: widths[trial.suggest_int(layer, 0, len(widths) - 1)] for layer in layers}
        yield number, chosen, lambda size, right, trial=trial: study.tell(trial, [size, right])  # type: ignore[misc]
