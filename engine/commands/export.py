"""`slimscope export`: the model of a recipe as an ONNX file, run by ONNX Runtime before it is kept."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from engine.commands import Said, options
from engine.commands.compress import applied, kept_if_good, writable
from engine.figures import onnx_run
from engine.printing import figure_table, noted
from engine.types import SlimscopeError


def add(verbs: Any) -> None:
    command = verbs.add_parser("export", help="write the model of a recipe as an ONNX file, run and timed")
    options.add_model(command)
    options.add_recipe(command)
    text = "the file to write: 8-bit codes where weights and inputs of layers have them, floats elsewhere"
    command.add_argument("--onnx", metavar="FILE", type=writable, required=True, help=text)
    command.add_argument(
        "--batch", metavar="N", type=int, default=1, help="samples at once, where it is timed"
    )
    text = "weights as unsigned codes, which processors without VNNI multiply exactly, too"
    command.add_argument("--unsigned", action="store_true", default=None, help=text)
    options.add_scaling(command)
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    model, original, notes = options.model_of(given, options.take_for(given))
    recipe = options.recipe_of(given, original)
    data = options.data_of(model, given, original)
    if data is None:
        raise SlimscopeError(
            "an ONNX file is run before it is kept: that needs a known architecture with data (--take-for, "
            "--model and --data name them)"
        )
    bundle, said = applied(original, recipe, data)
    found = onnx_run.tried(original, bundle, data.test, batch=given.batch, unsigned=given.unsigned)
    with kept_if_good(given.onnx) as path:
        path.write_bytes(found.data)
    figures = [figure.to_dict() for figure in found.figures]
    result = {
        "model": model,
        "recipe": [step.data for step in recipe],
        "file": str(given.onnx),
        "figures": figures,
        "integers": list(found.integers),
        "floats": dict(found.floats),
        "operators": list(found.operators),
        "why": found.why,
        "notes": [*notes, *said],
    }
    return result, "\n".join([figure_table(figures), *onnx_run.told(found), *noted([*notes, *said])])
