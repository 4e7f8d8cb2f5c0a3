"""`slimscope inspect`: what is in a file."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from engine.commands import Said, options
from engine.commands.compress import against_dense, file_size
from engine.figures import count, measure
from engine.file import intake, packfile
from engine.net import sources, zoo
from engine.printing import figure_table, noted
from engine.types import Bundle, Figure, SlimscopeError


def add(verbs: Any) -> None:
    command = verbs.add_parser("inspect", help="what is in a .slim or weights file")
    command.add_argument("file", metavar="FILE", help="a .slim, .safetensors, .pt or .pth file")
    command.add_argument(
        "--answers", action="store_true", help="also the model's class for every test sample"
    )
    options.add_scaling(command)
    options.add_code(command)
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    options.allow_code(given)
    bundle, notes = intake.find(given.file, take_for=options.take_for(given))
    found = describe_bundle(bundle)
    found["notes"] = [*notes, *found["notes"]]
    if Path(given.file).is_file():
        size = file_size(Path(given.file))
        found["size"] = size.to_dict()
        found["against the original"] = [figure.to_dict() for figure in _against_original(bundle, size)]
    if given.answers:
        data = options.data_of(given.file, given, bundle)
        answers = measure.predictions(bundle, data.test) if data is not None and data.test.is_judged else None
        found["answers"] = None if answers is None else answers.tolist()
        if data is not None and answers is not None and "against the original" in found:
            found["against the original"].append(measure.accuracy_of(answers, data.test.labels).to_dict())
        if data is not None and data.metric is not None:
            found["figures"].append(measure.judged(bundle, data.test, data.metric).to_dict())
    return found, _text(found, bundle)


def _against_original(bundle: Bundle, size: Figure) -> list[Figure]:
    """How much smaller the file is than the dense file of the zoo's model that it was made of."""
    if bundle.arch.source != "zoo" or bundle.arch.name not in zoo.trained():
        return []
    return against_dense(zoo.load(bundle.arch.name), size)


def _text(found: dict[str, Any], bundle: Bundle) -> str:
    lines = [
        f"{found['architecture'][0]}, fingerprint {found['fingerprint']}, recipe {bundle.lineage.key}",
        figure_table(
            [
                *([found["size"]] if "size" in found else []),
                *found.get("against the original", []),
                *found["figures"],
            ]
        ),
    ]
    for tensor in found["tensors"]:
        kind, shape = tensor["kind"], tuple(tensor["shape"])
        lines.append(f"  {tensor['name']}: {kind} {shape}, {tensor['bytes']:,} B in a .slim file")
    lines += noted(found["notes"])
    if found.get("answers") is not None:
        lines.append(" ".join(map(str, ("answers:", *found["answers"]))))
    return "\n".join(lines)


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
            "kind": param.kind,
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
