"""`slimscope sweep`: size and validation accuracy of a grid of recipes."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from engine.commands import Said, options
from engine.data.sets import READ_ON
from engine.figures import scores
from engine.jobs import models, scans, tasks
from engine.net import sources, zoo
from engine.printing import aligned, bar, number
from engine.types import Bundle, SlimscopeError


def add(verbs: Any) -> None:
    command = verbs.add_parser(
        "sweep", help="size of a grid of recipes, and validation accuracy or perplexity"
    )
    options.add_model(command)
    options.add_recipe(command)
    command.add_argument("--step", metavar="N", type=int, default=1, help="the step that is varied, from 1")
    text = '{"sparsity": [0.5, 0.9]}: one or two settings'
    command.add_argument("--vary", metavar="JSON", required=True, help=text)
    command.add_argument("--samples", metavar="N", type=int, default=scans.SAMPLES, help="validation samples")
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    _, bundle, _ = options.model_of(given)
    recipe = options.recipe_of(given, bundle)
    try:
        vary = json.loads(given.vary)
    except json.JSONDecodeError as error:
        raise SlimscopeError(f"--vary {given.vary[:80]!r} is not JSON: {error}") from None
    if not isinstance(vary, dict) or not all(isinstance(values, list) for values in vary.values()):
        raise SlimscopeError(f"--vary is {given.vary[:80]!r}: write settings with lists of values")
    data = sources.task(bundle.arch) if bundle.arch.runs else ""
    samples = given.samples
    if data and (given.own or data in READ_ON):
        samples = min(samples, len(sources.data(bundle.arch).validation))
    payload = {"model": model_id(bundle), "recipe": recipe.key, "data": data, "step": given.step}
    payload |= {"vary": vary, "samples": samples}
    with bar("sweep") as progress:
        found = tasks.perform("sweep", payload, progress)
    head = (*vary, "bytes", "accuracy", "low", "high", "n", "refused")
    told = [scores.readable(row) for row in found["rows"]]
    if data in READ_ON:
        head = tuple("perplexity" if name == "accuracy" else name for name in head)
    rows = [tuple("" if row.get(c) is None else _cell(row[c]) for c in head) for row in told]
    return found, aligned([head, *rows])


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def model_id(bundle: Bundle) -> str:
    """The id under which jobs find a bundle: kept where it is neither of the zoo nor the named code's."""
    if bundle.arch.source == "user" and bundle.fingerprint == sources.load_user().fingerprint:
        return f"user-{bundle.fingerprint}"
    if bundle.arch.source == "zoo" and bundle.fingerprint == zoo.load(bundle.arch.name).fingerprint:
        return bundle.arch.name
    return models.put_model(bundle)
