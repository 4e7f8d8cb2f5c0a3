"""Options of several commands: a model, code of the user's own, a recipe, how inputs were scaled."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from engine.data import user
from engine.data.sets import Data
from engine.file import intake, recognise
from engine.net import sources, zoo
from engine.recipe import migrate, ready
from engine.types import Bundle, Recipe, SlimscopeError

CODE = "package.module:factory or folder/file.py:factory"


# ---------------------------------------------------------------- a model


def add_model(command: ArgumentParser) -> None:
    """One model: a name or a file, or the user's own code."""
    command.add_argument("model", metavar="MODEL", nargs="?", help="a name in the zoo, or a weights file")
    add_code(command)


def add_code(command: ArgumentParser) -> None:
    """Code that is run because the person who starts this names it."""
    said = {
        "model": f"your own model: {CODE} returns an nn.Module; beside a file, the file has its weights",
        "data": "its data: returns (train, validation, test), data sets of (input, target)",
        "student": "a smaller model that may learn from yours: returns an nn.Module with first weights",
        "metric": "outputs, targets -> a score for each sample, or one: higher is better",
    }
    for name, text in said.items():
        dest = "own" if name == "model" else f"own_{name}"
        command.add_argument(f"--{name}", dest=dest, metavar="CODE", default="", help=text)


def allow_code(given: Namespace) -> None:
    """Allow the code that the options name."""
    if given.own:
        user.name(given.own, given.own_data, given.own_metric, given.own_student)
    elif given.own_data or given.own_metric or given.own_student:
        raise SlimscopeError(
            "--data, --metric and --student belong to a model of your own: name it by --model"
        )


def model_of(given: Namespace, take_for: str | None = None) -> tuple[str, Bundle, tuple[str, ...]]:
    """(its name, the bundle, notes) of the model that a command was given, one way or the other."""
    allow_code(given)
    if given.own and given.model:
        return given.model, *_filled(given.model)
    if not given.own and not given.model:
        raise SlimscopeError("name a model: MODEL (of the zoo, or a file), or --model with code of your own")
    if given.model:
        return given.model, *intake.find(given.model, take_for=take_for)
    bundle = sources.load_user()
    if given.own_data:
        sources.probe(bundle, sources.data(bundle.arch))
    return bundle.arch.what, bundle, ()


def _filled(path: str) -> tuple[Bundle, tuple[str, ...]]:
    """The weights of a file in the net of the user's code."""
    if path in zoo.ENTRIES:
        raise SlimscopeError(f"{path} is a model of the zoo, and --model names your own: name one of them")
    return intake.find(path, take_for=recognise.OWN)


# ---------------------------------------------------------------- a recipe


def add_recipe(command: ArgumentParser) -> None:
    """`--recipe` or `--recipe-file`."""
    recipe = command.add_mutually_exclusive_group(required=True)
    words = '[["prune_weights", {"sparsity": 0.9}], ...], or a name: ' + ", ".join(ready.RECIPES)
    recipe.add_argument("--recipe", metavar="JSON", help=words)
    recipe.add_argument("--recipe-file", metavar="FILE", type=Path, help="the same, in a file")


def recipe_of(given: Namespace, bundle: Bundle) -> Recipe:
    """The recipe that a command was given for a model, complete."""
    if given.recipe is not None and given.recipe.strip().isidentifier():
        return ready.recipe(given.recipe.strip(), bundle)
    text = given.recipe if given.recipe is not None else given.recipe_file.read_text()
    return migrate.read(text)


# ---------------------------------------------------------------- how inputs were scaled


def add_scaling(command: ArgumentParser) -> None:
    """`--mean`, `--std` and `--take-for`, of files that do not say what they are."""
    text = "of the images that the model was trained on, one number per channel: 0.5 or 0.5,0.5,0.5"
    command.add_argument("--mean", type=_numbers, default=(), help=f"mean {text}")
    command.add_argument("--std", type=_numbers, default=(), help=f"standard deviation {text}")
    text = "the model of the zoo that a file is, or `user`: it is measured as that; bare weights otherwise"
    command.add_argument("--take-for", metavar="NAME", help=text)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: allowed are numbers with commas between") from None


def take_for(given: Namespace) -> str | None:
    """The net that a file is to be taken for: a name, empty for the one it looks like, None for none."""
    return given.take_for or ("" if given.mean or given.std else None)


def data_of(model: str, given: Namespace, bundle: Bundle) -> Data | None:
    """The data of a net, standardised as it wants.

    None where the architecture or its inputs are unknown: known are those of the zoo, those of a user's code,
    and of a file what the person said that it is.
    """
    is_known = model in zoo.ENTRIES or bundle.arch.source == "user" or take_for(given) is not None
    if not is_known or not bundle.arch.runs or not sources.task(bundle.arch):
        return None
    data, mean, std = sources.data(bundle.arch), given.mean, given.std
    if not data.test.mean or not (mean or std):
        return data
    channels = data.test.images.shape[1]
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise SlimscopeError(
            f"mean {mean} and std {std}: allowed are {channels} numbers each for {data.name}, std above 0"
        )
    return data.standardised(mean, std)
