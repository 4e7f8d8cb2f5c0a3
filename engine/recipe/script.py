"""A recipe as a Python script that makes the same file again; it knows nothing of pages or files."""

from __future__ import annotations

import json
from pprint import pformat

from engine.data import user
from engine.net import zoo
from engine.recipe import technique
from engine.types import Recipe

TEMPLATE = '''"""Makes a .slim file again, byte for byte, and measures it. Needs slimscope installed."""

import os
{system}
os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts: training depends on the number of threads

from pathlib import Path

import torch

import engine.techniques
{user}from engine.figures import measure
from engine.file import intake, packfile
from engine.net import sources
from engine.recipe import migrate, run
from engine.types import Recipe, Step

{model}
FILE = {file}
RECIPE = {recipe}


def main() -> None:
    torch.set_num_threads(1)
    original, notes = intake.find(MODEL{take})
    samples = {samples}
    recipe = migrate.current(Recipe(tuple(Step(*step) for step in RECIPE)))
    bundle, reports = run.run(original, recipe, samples)
    Path(FILE).write_bytes(packfile.pack(bundle))
    decoded = packfile.unpack(Path(FILE).read_bytes())
    print(FILE, Path(FILE).stat().st_size, "bytes")
    if samples is not None:
        accuracy = measure.accuracy(decoded, samples.test)
        print("test accuracy", accuracy.value, "95 % interval", accuracy.spread)


if __name__ == "__main__":
    main()
'''


def script(
    model_id: str,
    recipe: Recipe,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    take_for: str = "",
) -> str:
    """Python text that applies `recipe` to the model, writes a .slim file and prints its accuracy.

    `model_id` is a name in the zoo, or the id of the code that was named at the start; for any other the
    script takes the path of a weights file as its argument, and `take_for` is the net of the zoo that a
    person took it for, or `user`: the named code's. `mean` and `std` standardise the images for weights
    that were trained with others than the zoo's. Every default is written out, so that a later default
    changes nothing.
    """
    known, told = model_id in zoo.ENTRIES, user.named()
    own = model_id.startswith("user-") and not told.file
    named, imported = "MODEL = user.named().model" if own else f"MODEL = {json.dumps(model_id)}", ""
    if not known and not own:
        named = "MODEL = sys.argv[1]  # the weights file"
    if own or (take_for == "user" and not told.file):
        code = ", ".join(f"{option}={json.dumps(name)}" for option, name in told.options().items())
        imported = "from engine.data import user\n"
        named = f"# Your code: run this where slimscope was started.\nuser.name({code})\n{named}"
    return TEMPLATE.format(
        system="" if known or own else "import sys\n",
        user=imported,
        model=named,
        file=json.dumps(f"{model_id}.slim" if known or own else "compressed.slim"),
        recipe=pformat([step.data for step in technique.complete(recipe.live)], width=100, sort_dicts=False),
        samples=_samples(mean, std),
        take=f", take_for={take_for!r}" if take_for else "",
    )


def _samples(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    named = "sources.data(original.arch)"
    scaled = f".standardised({mean!r}, {std!r})" if mean else ""
    return f"{named}{scaled} if original.arch.runs else None"
