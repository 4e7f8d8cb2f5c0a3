"""`slimscope compress`: apply a recipe, write the file, decode it in a new process and measure that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from engine.commands import Said, options
from engine.data.sets import ASSETS, Data
from engine.figures import measure, perplexity
from engine.file import packfile
from engine.net import answers as kept
from engine.net import zoo
from engine.printing import bar, figure_table, noted
from engine.recipe import run as recipes
from engine.recipe import technique
from engine.tensor import codes
from engine.types import Basis, Bundle, Figure, Recipe, SlimscopeError


def add(verbs: Any) -> None:
    command = verbs.add_parser("compress", help="apply a recipe, write the file, decode and measure it")
    options.add_model(command)
    options.add_recipe(command)
    command.add_argument(
        "--out", metavar="FILE", type=writable, required=True, help="the .slim file to write"
    )
    command.add_argument(
        "--coder",
        choices=list(codes.CODERS),
        default="",
        help="write whole numbers with this coder, for comparison; by default each stream takes the shortest",
    )
    options.add_scaling(command)
    command.set_defaults(run=run)


def writable(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        said = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise ArgumentTypeError(f"{text} {said}: allowed is a file in a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise ArgumentTypeError(f"{text} can't be written: you may not write in {path.parent}")
    return path


def run(given: Namespace) -> Said:
    model, original, notes = options.model_of(given, options.take_for(given))
    recipe = options.recipe_of(given, original)
    data = options.data_of(model, given, original)
    bundle, said = applied(original, recipe, data)
    is_taken = data is not None and original.arch.source == "zoo"
    with kept_if_good(given.out) as path:
        with codes.only(given.coder):
            path.write_bytes(packfile.pack(bundle))
        decoded = decode_elsewhere(path, given.mean, given.std, original.arch.name if is_taken else "")
        if decoded["fingerprint"] != bundle.fingerprint:
            raise SlimscopeError("the file does not decode to the model that was packed: please report this")
        size = file_size(path)
        figures = [size, *against_dense(original, size), *_accuracies(original, data, decoded["answers"])]
    if data is not None and data.metric is not None:
        judged = measure.judged(original, data.test, data.metric)
        figures.append(replace(judged, name="the original's metric"))
    if data is not None and data.test.is_labelled and model not in zoo.ENTRIES:
        before = measure.near_chance(measure.accuracy(original, data.test), len(data.classes))
        notes = (*notes, *filter(None, [before]))
    result = {
        "model": model,
        "recipe": [step.data for step in recipe],
        "file": str(given.out),
        "figures": [*(figure.to_dict() for figure in figures), *decoded["figures"]],
        "notes": list(dict.fromkeys([*notes, *said, *decoded["notes"]])),
    }
    return result, "\n".join([figure_table(result["figures"]), *noted(result["notes"])])


@contextmanager
def kept_if_good(out: Path) -> Iterator[Path]:
    """Where to write first: it becomes `out` when nothing is raised, and is removed otherwise."""
    partial = out.with_name(f"{out.stem}.partial{out.suffix}")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def applied(original: Bundle, recipe: Recipe, data: Data | None) -> tuple[Bundle, list[str]]:
    """The compressed bundle and what the techniques noted; a bar on stderr fills for each training."""
    trains = any(technique.get(step.technique).trains for step in recipe.live)
    with bar("training", disable=None if trains else True) as progress:
        bundle, reports = recipes.run(original, recipe, data, progress)
    return bundle, [note for report in reports for note in report.notes]


def decode_elsewhere(
    path: Path, mean: Sequence[float], std: Sequence[float], take_for: str = ""
) -> dict[str, Any]:
    """What a new process finds in the file: `inspect --answers` as data. Raises SlimscopeError."""
    scaling = [f"--{name}={','.join(map(str, v))}" for name, v in (("mean", mean), ("std", std)) if v]
    scaling += [f"--take-for={take_for}"] if take_for else []
    command = [sys.executable, "-m", "engine.cli", "inspect", str(path.resolve()), "--answers", "--json"]
    done = subprocess.run(
        [*command, *scaling], cwd=ASSETS.parent, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        why = done.stderr.strip().removeprefix("slimscope: ")[-300:]
        raise SlimscopeError(f"the packed file can't be used, and none is left: {why}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def file_size(path: Path) -> Figure:
    how = f"bytes of the {path.suffix} file on disk, header included"
    return Figure("file size", path.stat().st_size, "B", Basis.MEASURED, how)


def against_dense(original: Bundle, size: Figure) -> list[Figure]:
    """The bytes of the original as a dense file, and how many times the file goes into them."""
    state = {name: tensor.contiguous() for name, tensor in original.origin.decoded().items()}
    dense, how = len(save_tensors(state)), "bytes as safetensors, 4 B a number"
    times = "dense file of the original / file size"
    return [
        Figure("dense file of the original", dense, "B", Basis.MEASURED, how),
        Figure("ratio", dense / size.value, "times", Basis.MEASURED, times),
    ]


def _accuracies(original: Bundle, data: Data | None, answers: list[Any] | None) -> list[Figure]:
    """Accuracy or perplexity of the decoded file's answers on the full test set, and the paired change."""
    if data is None or answers is None or not data.test.is_judged:
        return []
    labels, now = data.test.labels, kept.restored(answers)
    before = measure.predictions(original, data.test)
    figures = [measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)]
    if data.test.is_read_on:
        figures += [perplexity.bits_per_character(now, data.test), perplexity.agreement(before, now)]
    return figures
