"""Trained results that come with slimscope: the defaults of the techniques that train, on models of the zoo.

A result is a packed file and its report, under a stamp that holds the model, the recipe, the data and the
version of results: one that another version would train otherwise is not found any more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.data.sets import Data
from engine.file import packfile
from engine.jobs import as_json, keys
from engine.net import zoo
from engine.recipe import ready, technique
from engine.types import Bundle, Recipe, Report

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "results" / "trained"
# What pages show at first: a technique that trains by itself, or after the defaults of another.
DEFAULTS = (
    ("prune_weights", "finetune"),
    ("prune_filters", "finetune"),
    ("prune_channels", "finetune"),
    ("optimal_brain_damage", "finetune"),
    ("prune_iteratively",),
    ("distill",),
    ("lottery_ticket",),
    ("slim",),
    ("condense",),
    ("replace_convs",),
    ("search_design",),
    ("factor_transfer",),
    ("share_weights", "train_centroids"),
    ("ternarize_trained",),
    ("quantize_aware",),
    ("learn_intervals",),
    ("distill_quantized",),
    ("adaround",),
    ("zeroquant",),
    ("zeroq",),
)
# Another draw of the same: a page shows how much the two have in common.
SECOND: dict[str, dict[str, Any]] = {"lottery_ticket": {"seed": 1, "re_init": False}}
RECORDS = ("lenet-300-100", "lenet-5")  # whose record is stored: the recipe `record`, up to each training


def recipes_of(model: str) -> list[Recipe]:
    """The recipes with defaults that a model of the zoo can be trained with, and those of its record."""
    found, bundle = list[Recipe](), zoo.load(model)
    for names in DEFAULTS:
        recipe = technique.complete(Recipe(tuple(technique.step(name) for name in names)))
        if not any(technique.get(name).why_not(bundle) for name in names):
            found += [recipe, *_second(names)]
    return [*found, *(_up_to_trainings(ready.record(bundle)) if model in RECORDS else ())]


def _up_to_trainings(recipe: Recipe) -> list[Recipe]:
    whole = technique.complete(recipe).steps
    return [Recipe(whole[:n]) for n, step in enumerate(whole, 1) if technique.get(step.technique).trains]


def _second(names: tuple[str, ...]) -> list[Recipe]:
    """The other draw that is stored beside one of these defaults, where there is one."""
    some = SECOND.get(names[-1])
    return [] if some is None else [technique.complete(Recipe((technique.step(names[-1], **some),)))]


def path(model: Bundle, recipe: Recipe, data: Data | None) -> Path:
    """Where what was trained of a recipe is, or would be."""
    return FOLDER / f"{keys.stamp('apply', model, recipe, data)}.slim"


def get(model: Bundle, recipe: Recipe, data: Data | None) -> tuple[Bundle, Report] | None:
    """What was trained of a recipe, and the report of its last step; None where nothing is stored of it."""
    file = path(model, recipe, data)
    if not file.is_file():
        return None
    bundle, report = packfile.unpack(file.read_bytes()), json.loads(file.with_suffix(".json").read_text())
    made = Bundle(bundle.arch, bundle.params, model.origin, recipe)
    return made, as_json.report_of(report["report"])


def put(model: Bundle, recipe: Recipe, data: Data | None, bundle: Bundle, report: Report) -> Path:
    """Store what was trained; the folder is part of the program's own files."""
    file = path(model, recipe, data)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packfile.pack(bundle))
    about = {"model": model.arch.name, "recipe": recipe.key, "report": as_json.report_data(report)}
    file.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    return file
