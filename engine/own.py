"""Commands on the user's own model: the options that name its code, `sweep` and `latency`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.data import user
from engine.figures import latency
from engine.file import intake, recognise
from engine.jobs import store, tasks
from engine.net import sources, zoo
from engine.printing import aligned, number, print_json
from engine.recipe import migrate, run
from engine.types import Bundle, Progress, Recipe, SlimscopeError

CODE = "package.module:factory or folder/file.py:factory"


# ---------------------------------------------------------------- options


def add_options(command: argparse.ArgumentParser) -> None:
    """`--model`, `--data` and `--metric`: code that is run because the person who starts this names it."""
    text = f"your own net: {CODE} returns an nn.Module; beside a file, the file has its weights"
    command.add_argument("--model", dest="own", metavar="CODE", default="", help=text)
    text = "returns (train, validation, test), data sets of (input, target)"
    command.add_argument("--data", dest="own_data", metavar="CODE", default="", help=f"its data: {text}")
    _add_student(command)
    text = "outputs, targets -> a score for each sample, or one: higher is better"
    command.add_argument("--metric", dest="own_metric", metavar="CODE", default="", help=text)


def _add_student(command: argparse.ArgumentParser) -> None:
    text = "a smaller net that may learn from yours: returns an nn.Module with first weights"
    command.add_argument("--student", dest="own_student", metavar="CODE", default="", help=text)


def name(given: argparse.Namespace) -> None:
    """Allow the code that the options name."""
    if given.own:
        user.name(given.own, given.own_data, given.own_metric, given.own_student)
    elif given.own_data or given.own_metric or given.own_student:
        raise SlimscopeError("--data, --metric and --student belong to a net of your own: name it by --model")


def model_of(given: argparse.Namespace, take_for: str | None = None) -> tuple[str, Bundle, tuple[str, ...]]:
    """(its name, the bundle, notes) of the model that a command was given, one way or the other."""
    name(given)
    if given.own and given.model:
        return given.model, *_filled(given.model)
    if not given.own and not given.model:
        raise SlimscopeError("name a net: MODEL (of the zoo, or a file), or --model with code of your own")
    if given.model:
        return given.model, *intake.find(given.model, take_for=take_for)
    bundle = sources.load_user()
    if given.own_data:
        sources.probe(bundle, sources.data(bundle.arch))
    return bundle.arch.what, bundle, ()


def _filled(path: str) -> tuple[Bundle, tuple[str, ...]]:
    """The weights of a file in the net of the user's code."""
    if path in zoo.ENTRIES:
        raise SlimscopeError(f"{path} is a net of the zoo, and --model names your own: name one of them")
    return intake.find(path, take_for=recognise.OWN)


def served(given: argparse.Namespace) -> None:
    """Check all of what the app is to open, so that what is wrong with it is said at the start."""
    if not given.own_data:
        raise SlimscopeError(f"--model needs --data: {CODE} returns (train, validation, test)")
    given.model = ""
    _, bundle, _ = model_of(given)
    if not sources.data(bundle.arch).test.is_labelled:
        raise SlimscopeError(
            "the pages need targets that are numbers of classes; `slimscope compress --metric` takes any"
        )


def add_recipe(command: argparse.ArgumentParser, required: bool = True) -> None:
    """`--recipe` or `--recipe-file`."""
    recipe = command.add_mutually_exclusive_group(required=required)
    recipe.add_argument("--recipe", metavar="JSON", help='[["prune_weights", {"sparsity": 0.9}], ...]')
    recipe.add_argument("--recipe-file", metavar="FILE", type=Path, help="the same, in a file")


def recipe_of(given: argparse.Namespace) -> Recipe:
    """The recipe that a command was given, complete."""
    text = given.recipe if given.recipe is not None else given.recipe_file.read_text()
    return migrate.read(text)


# ---------------------------------------------------------------- sweep


def add_sweep(verbs: Any) -> argparse.ArgumentParser:
    """The parser of `sweep`."""
    many: argparse.ArgumentParser = verbs.add_parser(
        "sweep", help="size and validation accuracy of a grid of recipes"
    )
    many.add_argument("model", metavar="MODEL", nargs="?", help="a name in the zoo, or a weights file")
    add_recipe(many)
    many.add_argument("--step", metavar="N", type=int, default=1, help="the step that is varied, from 1")
    many.add_argument(
        "--vary", metavar="JSON", required=True, help='{"sparsity": [0.5, 0.9]}: one or two settings'
    )
    many.add_argument("--samples", metavar="N", type=int, default=tasks.SAMPLES, help="validation samples")
    add_options(many)
    many.set_defaults(run=_sweep)
    return many


def _sweep(given: argparse.Namespace) -> None:
    recipe, (_, bundle, _) = recipe_of(given), model_of(given)
    try:
        vary = json.loads(given.vary)
    except json.JSONDecodeError as error:
        raise SlimscopeError(f"--vary {given.vary[:80]!r} is not JSON: {error}") from None
    if not isinstance(vary, dict) or not all(isinstance(values, list) for values in vary.values()):
        raise SlimscopeError(f"--vary is {given.vary[:80]!r}: write settings with lists of values")
    data = sources.task(bundle.arch) if bundle.arch.runs else ""
    samples = given.samples
    if data and given.own:
        samples = min(samples, len(sources.data(bundle.arch).validation))
    payload = {"model": model_id(bundle), "recipe": recipe.key, "data": data, "step": given.step}
    payload |= {"vary": vary, "samples": samples}
    with tqdm(total=1.0, desc="sweep", bar_format="{desc} {percentage:3.0f} % |{bar}|", disable=None) as bar:
        found = tasks.perform("sweep", payload, Progress(lambda share, row: bar.update(share - bar.n)))
    if given.json:
        print_json(found)
        return
    head = (*vary, "bytes", "accuracy", "low", "high", "n", "refused")
    rows = [tuple("" if row.get(c) is None else _cell(row[c]) for c in head) for row in found["rows"]]
    print(aligned([head, *rows]))


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def model_id(bundle: Bundle) -> str:
    """The id under which jobs find a bundle: kept where it is neither of the zoo nor the named code's."""
    if bundle.arch.source == "user" and bundle.fingerprint == sources.load_user().fingerprint:
        return f"user-{bundle.fingerprint}"
    if bundle.arch.source == "zoo" and bundle.fingerprint == zoo.load(bundle.arch.name).fingerprint:
        return bundle.arch.name
    return store.put_model(bundle)


# ---------------------------------------------------------------- latency


def add_latency(verbs: Any) -> argparse.ArgumentParser:
    """The parser of `latency`."""
    timed: argparse.ArgumentParser = verbs.add_parser(
        "latency", help="measured time of every form of a compressed net"
    )
    timed.add_argument("model", metavar="MODEL", nargs="?", help="a name in the zoo, or a weights file")
    add_recipe(timed)
    timed.add_argument("--batch", metavar="N", type=int, default=1, help="samples at once")
    add_options(timed)
    timed.set_defaults(run=_latency)
    return timed


def _latency(given: argparse.Namespace) -> None:
    recipe, (_, original, _) = recipe_of(given), model_of(given)
    data = sources.data(original.arch)
    after = run.run(original, recipe, data)[0]
    rows = latency.latency(original, after, given.batch)
    if given.json:
        print_json([_row(row) for row in rows])
        return
    head = ("form", "runtime", "ms", "times as fast", "bytes", "why")
    cells = [
        (
            row.form,
            row.runtime,
            *(
                "" if figure is None else number(figure.value)
                for figure in (row.time, row.speed_up, row.size)
            ),
            row.why,
        )
        for row in rows
    ]
    print(aligned([head, *cells]))


def _row(row: latency.Row) -> dict[str, Any]:
    figures = {"time": row.time, "speed_up": row.speed_up, "size": row.size}
    said = {name: None if figure is None else figure.to_dict() for name, figure in figures.items()}
    return {"form": row.form, "runtime": row.runtime, **said, "why": row.why}
