"""`slimscope curves`: the stored curves of accuracy against bytes, one file for each model of the zoo."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.commands import Said
from engine.jobs import curves, dates
from engine.net import zoo
from engine.printing import bar
from engine.recipe import technique
from engine.types import SlimscopeError

FEWEST = 3  # points: both ends and the middle


def add(verbs: Any) -> None:
    command = verbs.add_parser(
        "curves", help="measure the zoo's curves of accuracy against bytes, and keep them"
    )
    command.add_argument("models", metavar="MODEL", nargs="*", help="names in the zoo; all unless told")
    text = "each that answers at once or has a stored training, unless told; may be given again"
    command.add_argument("--technique", metavar="NAME", action="append", dest="techniques", help=text)
    command.add_argument("--again", action="store_true", help="also those that are up to date")
    text = "of each curve at most; pages work out the others while they are looked at"
    command.add_argument("--points", metavar="N", type=int, default=curves.MOST_POINTS, help=text)
    text = "where the files are written; those of slimscope itself unless told"
    command.add_argument("--out", metavar="FOLDER", type=Path, default=curves.FOLDER, help=text)
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    if given.points < FEWEST:
        raise SlimscopeError(f"--points {given.points}: allowed are {FEWEST} or more")
    quick = [name for name, known in technique.REGISTRY.items() if known.runs != "seconds"]
    names, found = given.techniques or quick, {}
    for model in given.models or zoo.trained():
        found[model] = sum([_written(model, name, given) for name in names])
    told = [f"{model}: {count} new points, {given.out / model}.json" for model, count in found.items()]
    return found, "\n".join(told)


def _written(model: str, name: str, given: Namespace) -> int:
    """How many points of a curve were measured; none where it has no slider, or is stored and up to date."""
    of = curves.alone(model, zoo.entry(model).data, name)
    stored = curves.stored_curves(model, given.out)
    if of is None or (of.stamp in stored and not given.again):
        return 0
    if not of.is_trained(of.step.settings[of.setting]):
        if given.techniques:
            raise SlimscopeError(
                f"{name} trains: its curve on {model} is written once its defaults are trained"
            )
        return 0
    with bar(f"{model}, {name}") as progress:
        made = curves.made(replace(of, limit=given.points), progress)
    if len(made["rows"]) < 2:  # nothing but the original: the technique does not apply to this model
        return 0
    others = [one for one in stored.values() if (one["technique"], one["setting"]) != (name, of.setting)]
    given.out.mkdir(parents=True, exist_ok=True)
    content = curves.file_text(model, [*others, made])
    (given.out / f"{model}.json").write_text(content)
    dates.note(model, given.out)
    return len(made["rows"])
