"""The slimscope command: list the zoo, compress a net, inspect a file, run papers again, start the app.

Mistakes give one line on stderr and exit code 2. Numbers come with unit, basis and how they
were obtained; `--json` gives the same as data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor
from tqdm import tqdm

import engine.techniques  # noqa: F401  (fills the registry)
from engine import own, papers
from engine.data import user
from engine.data.sets import Data
from engine.figures import count, measure
from engine.file import intake, packfile
from engine.jobs import home
from engine.net import sources, zoo
from engine.papers import harness
from engine.papers.harness import Paper
from engine.printing import aligned, figure_table, interval, number, print_json
from engine.recipe import run, technique
from engine.recipe.knobs import Choice, Knob, Layers, PerLayer, Picks, Slider, Toggle
from engine.recipe.technique import Technique
from engine.types import Basis, Bundle, Figure, Progress, Recipe, SlimscopeError

ROOT = Path(__file__).resolve().parent.parent


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 and one line on stderr where the person can mend it."""
    torch.set_num_threads(1)
    given = _parser().parse_args(words)
    try:
        given.run(given)
    except (SlimscopeError, OSError) as error:
        print(f"slimscope: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> Parser:
    parser = Parser(prog="slimscope", description="Compression of neural networks, explored.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", parser_class=Parser)

    models = verbs.add_parser("models", help="list the nets of the zoo with their measured accuracy")
    models.set_defaults(run=_models)

    about = verbs.add_parser("techniques", help="list the techniques with their settings")
    about.set_defaults(run=_techniques)

    press = verbs.add_parser("compress", help="apply a recipe, write the file, decode and measure it")
    press.add_argument("model", metavar="MODEL", nargs="?", help="a name in the zoo, or a weights file")
    own.add_recipe(press)
    press.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .slim file to write")
    _add_scaling(press)
    own.add_options(press)
    press.set_defaults(run=_compress)

    look = verbs.add_parser("inspect", help="what is in a .slim or weights file")
    look.add_argument("file", metavar="FILE", help="a .slim, .safetensors, .pt or .pth file")
    look.add_argument("--answers", action="store_true", help="also the net's class for every test sample")
    _add_scaling(look)
    own.add_options(look)
    look.set_defaults(run=_inspect)

    again = verbs.add_parser("papers", help="published results, and how far our own runs came")
    again.add_argument("name", metavar="NAME", nargs="?", help="one of them; all where it is left out")
    again.add_argument("--run", dest="go", action="store_true", help="run the seeds that are missing")
    again.add_argument("--seed", metavar="N", type=int, help="run this seed alone")
    again.set_defaults(run=_papers)

    many, timed = own.add_sweep(verbs), own.add_latency(verbs)
    for command in (models, about, press, look, again, many, timed):
        command.add_argument("--json", action="store_true", help="print JSON")

    app = verbs.add_parser("app", help="start the explorer in a browser")
    app.add_argument("--port", type=int, default=8501)
    app.add_argument("--address", default="127.0.0.1")
    app.add_argument("--weights", metavar="FILE", help="open this file; it is read where it lies")
    app.add_argument(
        "--limit", metavar="MB", type=int, default=intake.LIMIT // 10**6, help="largest weights file"
    )
    own.add_options(app)
    app.set_defaults(run=_app)
    return parser


def _add_scaling(command: argparse.ArgumentParser) -> None:
    text = "of the images that the net was trained on, one number per channel: 0.5 or 0.5,0.5,0.5"
    command.add_argument("--mean", type=_numbers, default=(), help=f"mean {text}")
    command.add_argument("--std", type=_numbers, default=(), help=f"standard deviation {text}")
    command.add_argument(
        "--take-for",
        metavar="NAME",
        help="the net of the zoo that a file is, or `user`: it is measured as that; bare weights otherwise",
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are numbers with commas between") from None


# ---------------------------------------------------------------- models and techniques


def _models(given: argparse.Namespace) -> None:
    listed = [describe_model(name) for name in zoo.trained()]
    if given.json:
        print_json(listed)
        return
    for model in listed:
        print(f"{model['name']}: {model['about']} ({model['data']})")
        print(figure_table(model["figures"]))


def describe_model(name: str) -> dict[str, Any]:
    """A net of the zoo as JSON-ready data; its accuracy was measured when it was trained."""
    entry, bundle, card = zoo.entry(name), zoo.load(name), zoo.card(name)
    path = zoo.MODELS / f"{name}.safetensors"
    size = Figure("dense file", path.stat().st_size, "B", Basis.MEASURED, f"size of {path.name} on disk")
    figures = [count.parameters(bundle), count.macs(bundle), size]
    return {
        "name": name,
        "title": entry.title,
        "about": entry.about,
        "data": entry.data,
        "student": entry.student,
        "figures": [card["test accuracy"], *(figure.to_dict() for figure in figures)],
    }


def _techniques(given: argparse.Namespace) -> None:
    listed = [describe_technique(known) for known in technique.REGISTRY.values()]
    if given.json:
        print_json(listed)
        return
    for known in listed:
        print(f"{known['name']}: {known['about']}")
        for setting in known["settings"]:
            default = json.dumps(setting["default"])
            print(f"  {setting['name']} = {default}  ({setting['allowed']}) {setting['help']}")


def describe_technique(known: Technique) -> dict[str, Any]:
    """A technique as JSON-ready data: what it does, its source, and every setting."""
    settings = [
        {
            "name": name,
            "default": known.defaults[name],
            "allowed": allowed(knob),
            "unit": knob.unit,
            "help": knob.help,
        }
        for name, knob in known.knobs.items()
    ]
    return {
        "name": known.name,
        "title": known.title,
        "about": known.about,
        "reference": known.reference,
        "trains": known.trains,
        "presets": {name: dict(preset) for name, preset in known.presets.items()},
        "settings": settings,
    }


def allowed(knob: Knob) -> str:
    """What a setting may be, in words."""
    match knob:
        case Slider():
            low, high = knob.bounds(None)
            kind = "a whole number" if knob.whole else "a number"
            ends = [
                f"from {low:g}" if abs(low) < float("inf") else "",
                f"to {high:g}" if high < float("inf") else "",
            ]
            return " ".join([kind, *(end for end in ends if end)]) + (
                "" if all(ends) else ", bounded by the layer"
            )
        case Choice():
            return "one of " + ", ".join(knob.options)
        case Toggle():
            return "true or false"
        case Layers():
            return "a list of layer names"
        case PerLayer():
            return f"a table layer -> {allowed(knob.knob)}"
        case Picks():
            return "a table layer -> whole numbers from 0 on"
    return type(knob).__name__


# ---------------------------------------------------------------- compress


def _compress(given: argparse.Namespace) -> None:
    recipe = own.recipe_of(given)
    given.model, original, notes = own.model_of(given, told(given))
    data = images_for(original, given.mean, given.std) if is_known(given.model, given, original) else None
    bundle, said = _applied(original, recipe, data)
    given.out.write_bytes(packfile.pack(bundle))
    decoded = decode_elsewhere(given.out, given.mean, given.std, _taken_for(original) if data else "")
    if decoded["fingerprint"] != bundle.fingerprint:
        raise SlimscopeError(f"{given.out} does not decode to the net that was packed: please report this")
    size = file_size(given.out)
    figures = [size, *against_dense(original, size), *_accuracies(original, data, decoded["answers"])]
    if data is not None and data.metric is not None:
        figures.append(
            replace(measure.judged(original, data.test, data.metric), name="the original's metric")
        )
    if data is not None and data.test.is_labelled and given.model not in zoo.ENTRIES:
        before = measure.near_chance(measure.accuracy(original, data.test), len(data.classes))
        notes = (*notes, *([before] if before else []))
    result = {
        "model": given.model,
        "recipe": [step.data for step in recipe],
        "file": str(given.out),
        "figures": [*(figure.to_dict() for figure in figures), *decoded["figures"]],
        "notes": [*notes, *said],
    }
    if given.json:
        print_json(result)
        return
    print(figure_table(result["figures"]))
    for note in result["notes"]:
        print(f"note: {note}")


def images_for(bundle: Bundle, mean: tuple[float, ...], std: tuple[float, ...]) -> Data | None:
    """The data of a net, standardised as it wants; None where the architecture is unknown."""
    if not bundle.arch.runs:
        return None
    data = sources.data(bundle.arch) if sources.task(bundle.arch) else None
    if data is None or not data.test.mean:
        return data
    if not mean and not std:
        return data
    channels = data.test.images.shape[1]
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise SlimscopeError(
            f"mean {mean} and std {std}: allowed are {channels} numbers each for {data.name}, std above 0"
        )
    return data.standardised(mean, std)


BAR = "{desc} {percentage:3.0f} % |{bar}| {elapsed}{postfix}"


def _applied(original: Bundle, recipe: Recipe, data: Data | None) -> tuple[Bundle, list[str]]:
    """The compressed bundle and what the techniques noted; a bar on stderr fills for each training."""
    trains = any(technique.get(step.technique).trains for step in recipe.live)
    with tqdm(total=1.0, desc="training", bar_format=BAR, disable=None if trains else True) as bar:

        def show(fraction: float, row: Mapping[str, float] | None) -> None:
            bar.n = fraction
            bar.set_postfix(row or {})

        bundle, reports = run.run(original, recipe, data, Progress(show))
    return bundle, [note for report in reports for note in report.notes]


def told(given: argparse.Namespace) -> str | None:
    """The net that a file is to be taken for: a name, empty for the one it looks like, None for none."""
    return given.take_for or ("" if given.mean or given.std else None)


def is_known(model: str, given: argparse.Namespace, bundle: Bundle) -> bool:
    """Whether a net's inputs are known: the zoo's, those of a user's code, or the person said what it is."""
    return model in zoo.ENTRIES or bundle.arch.source == "user" or told(given) is not None


def _taken_for(bundle: Bundle) -> str:
    return bundle.arch.name if bundle.arch.source == "zoo" else ""


def decode_elsewhere(
    path: Path, mean: tuple[float, ...], std: tuple[float, ...], take_for: str = ""
) -> dict[str, Any]:
    """What a new process finds in the file: `inspect --answers` as data. Raises SlimscopeError."""
    scaling = [f"--{name}={','.join(map(str, v))}" for name, v in (("mean", mean), ("std", std)) if v]
    scaling += [f"--take-for={take_for}"] if take_for else []
    command = [sys.executable, "-m", "engine.cli", "inspect", str(path.resolve()), "--answers", "--json"]
    done = subprocess.run([*command, *scaling], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SlimscopeError(f"{path} was written but not decoded: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def file_size(path: Path) -> Figure:
    how = f"bytes of the {path.suffix} file on disk, header included"
    return Figure("file size", path.stat().st_size, "B", Basis.MEASURED, how)


def against_dense(original: Bundle, size: Figure) -> list[Figure]:
    """The bytes of the original as a dense file, and how many times the file goes into them."""
    state = {name: tensor.contiguous() for name, tensor in original.origin.decoded().items()}
    dense, how = len(save_tensors(state)), "bytes as safetensors, 4 B a number"
    return [
        Figure("dense file of the original", dense, "B", Basis.MEASURED, how),
        Figure(
            "ratio", dense / size.value, "times", Basis.MEASURED, "dense file of the original / file size"
        ),
    ]


def _accuracies(original: Bundle, data: Data | None, answers: list[int] | None) -> list[Figure]:
    """Accuracy of the decoded file's answers on the full test set, and the paired change."""
    if data is None or answers is None or not data.test.is_labelled:
        return []
    labels, now = data.test.labels, torch.tensor(answers)
    before = measure.predictions(original, data.test)
    return [measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)]


# ---------------------------------------------------------------- inspect


def _inspect(given: argparse.Namespace) -> None:
    own.name(given)
    bundle, notes = intake.find(given.file, take_for=told(given))
    found = describe_bundle(bundle)
    found["notes"] = [*notes, *found["notes"]]
    if Path(given.file).is_file():
        found["size"] = file_size(Path(given.file)).to_dict()
    if given.answers:
        data = images_for(bundle, given.mean, given.std) if is_known(given.file, given, bundle) else None
        has_classes = data is not None and data.test.is_labelled
        found["answers"] = _listed(measure.predictions(bundle, data.test)) if data and has_classes else None
        if data is not None and data.metric is not None:
            found["figures"].append(measure.judged(bundle, data.test, data.metric).to_dict())
    if given.json:
        print_json(found)
        return
    print(f"{found['architecture'][0]}, fingerprint {found['fingerprint']}, recipe {bundle.lineage.key}")
    print(figure_table([*([found["size"]] if "size" in found else []), *found["figures"]]))
    for tensor in found["tensors"]:
        kind, shape = tensor["kind"], tuple(tensor["shape"])
        print(f"  {tensor['name']}: {kind} {shape}, {tensor['bytes']:,} B in a .slim file")
    for note in found["notes"]:
        print(f"note: {note}")
    if found.get("answers") is not None:
        print("answers:", *found["answers"])


def _listed(answers: Tensor) -> list[int]:
    return [int(answer) for answer in answers]


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """A bundle as JSON-ready data: architecture, recipe, figures, and every tensor with its bytes."""
    figures, notes = [count.parameters(bundle), count.nonzeros(bundle), count.sparsity(bundle)], list[str]()
    if bundle.arch.runs and sources.task(bundle.arch):
        try:
            figures.append(count.macs(bundle))
        except SlimscopeError as error:  # a layer of an unknown kind
            notes.append(str(error))
    sizes = packfile.sections(bundle).groupby("tensor")["bytes"].sum()
    tensors = [
        {
            "name": name,
            "kind": type(param).__name__.lower(),
            "shape": list(param.shape),
            "bytes": int(sizes.get(name, 0)),
        }
        for name, param in bundle.params.items()
    ]
    return {
        "architecture": bundle.arch.data,
        "fingerprint": bundle.fingerprint,
        "recipe": [step.data for step in bundle.lineage],
        "figures": [figure.to_dict() for figure in figures],
        "tensors": tensors,
        "notes": notes,
    }


# ---------------------------------------------------------------- papers


def _papers(given: argparse.Namespace) -> None:
    chosen = [papers.get(given.name)] if given.name else list(papers.PAPERS.values())
    if given.seed is not None and not given.go:
        raise SlimscopeError(f"--seed {given.seed} says which seed to run: it goes with --run")
    if given.go and not given.name:
        raise SlimscopeError(f"--run needs a NAME: allowed is one of {', '.join(papers.PAPERS)}")
    for paper in chosen if given.go else ():
        for seed in paper.seeds if given.seed is None else (given.seed,):
            try:
                _reproduce(paper, seed)
            except harness.Busy as busy:
                if given.seed is not None:
                    raise
                print(f"{busy}; going on with the next", file=sys.stderr)
    described = [harness.describe(paper) for paper in chosen]
    if given.json:
        print_json(described)
        return
    for found in described:
        print(", ".join(filter(None, (f"{found['name']}: {found['status']}", found["start"]))))
        print(f"  {found['claim']}")
        print(f"  {found['paper']}")
        print(claim_table(found))


def _reproduce(paper: Paper, seed: int) -> None:
    missing = seed in paper.seeds and seed not in harness.results(paper)
    with tqdm(total=1.0, desc=f"{paper.name}, seed {seed}", bar_format=BAR, disable=not missing) as bar:

        def show(fraction: float, row: Mapping[str, float] | None) -> None:
            bar.n = fraction
            bar.set_postfix(row or {})

        harness.run(paper, seed, Progress(show))


def claim_table(paper: Mapping[str, Any]) -> str:
    """Published figures beside ours as aligned text: median and range over the seeds that are done."""
    done, needed = len(paper["seeds"]["done"]), len(paper["seeds"]["needed"])
    head = ("", "published", f"ours ({done} of {needed} seeds)", "range", "unit", "counted")
    rows = [
        (
            figure["name"],
            "not stated" if figure["published"] is None else number(figure["published"]),
            "" if figure["median"] is None else number(figure["median"]),
            interval(figure["spread"]),
            figure["unit"],
            figure["counted"],
        )
        for figure in paper["figures"]
    ]
    return aligned([head, *rows])


# ---------------------------------------------------------------- the app


def _app(given: argparse.Namespace) -> None:
    page = ROOT / "pages" / "parts" / "serve.py"
    if not page.is_file():
        raise SlimscopeError(f"{page} is missing: start the app from a checkout of slimscope")
    home.check()
    command = app_command(page, given.port, given.address)
    # Threads are bound before Python starts: Streamlit runs scripts in threads of its own.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLIMSCOPE_LIMIT": str(given.limit * 10**6)}
    environment["STREAMLIT_SERVER_MAX_UPLOAD_SIZE"] = str(given.limit)
    if given.own:
        own.served(given)
        environment[user.VARIABLE] = os.environ[user.VARIABLE]
    if given.weights:
        path = Path(given.weights).absolute()
        intake.open_file(path, given.limit * 10**6)  # what is wrong with it is said here
        environment["SLIMSCOPE_WEIGHTS"] = str(path)
    os.chdir(ROOT)
    os.execve(command[0], command, environment)


def app_command(page: Path, port: int, address: str) -> list[str]:
    """The command line that serves the app."""
    server = [f"--server.port={port}", f"--server.address={address}"]
    return [sys.executable, "-m", "streamlit", "run", str(page), *server]


if __name__ == "__main__":
    main()
