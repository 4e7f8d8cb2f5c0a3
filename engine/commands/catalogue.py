"""`slimscope models` and `slimscope techniques`: what there is."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from engine.commands import Said
from engine.figures import count
from engine.net import zoo
from engine.printing import figure_table
from engine.recipe import technique
from engine.recipe.knobs import Choice, Entries, Knob, Layers, PerLayer, Picks, Slider, Toggle
from engine.recipe.technique import Technique
from engine.types import Basis, Figure


def add(verbs: Any) -> None:
    models = verbs.add_parser(
        "models", help="list the models of the zoo, and how good each was measured to be"
    )
    models.set_defaults(run=run_models)
    techniques = verbs.add_parser("techniques", help="list the techniques with their settings")
    techniques.set_defaults(run=run_techniques)


def run_models(given: Namespace) -> Said:
    listed = [describe_model(name) for name in zoo.trained()]
    lines = []
    for each in listed:
        lines += [f"{each['name']}: {each['about']} ({each['data']})", figure_table(each["figures"])]
    return listed, "\n".join(lines)


def describe_model(name: str) -> dict[str, Any]:
    """A net of the zoo as JSON-ready data; its accuracy was measured when it was trained, or taken."""
    entry, bundle = zoo.entry(name), zoo.load(name)
    path = zoo.MODELS / f"{name}.safetensors"
    size = Figure("dense file", path.stat().st_size, "B", Basis.MEASURED, f"size of {path.name} on disk")
    figures = [count.parameters(bundle), count.macs(bundle), size]
    return {
        "name": name,
        **{field: getattr(entry, field) for field in ("title", "about", "data", "student")},
        "figures": [zoo.tested(name), *(figure.to_dict() for figure in figures)],
    }


def run_techniques(given: Namespace) -> Said:
    listed, lines = [describe_technique(known) for known in technique.REGISTRY.values()], []
    for known in listed:
        lines.append(f"{known['name']}: {known['about']}")
        for setting in known["settings"]:
            default = json.dumps(setting["default"])
            lines.append(f"  {setting['name']} = {default}  ({setting['allowed']}) {setting['help']}")
    return listed, "\n".join(lines)


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
        **{field: getattr(known, field) for field in ("name", "title", "about", "reference", "trains")},
        "presets": {name: dict(preset) for name, preset in known.presets.items()},
        "settings": settings,
    }


def allowed(knob: Knob) -> str:
    """What a setting may be, in words."""
    match knob:
        case Slider():
            low, high = knob.bounds(None)
            kind = "a whole number" if knob.whole else "a number"
            first = f" from {low:g}" if abs(low) < float("inf") else ""
            last = f" to {high:g}" if high < float("inf") else ""
            return f"{kind}{first}{last}" + ("" if first and last else ", bounded by the layer")
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
        case Entries():
            return f"a table layer -> {{whole number from 0 to {knob.most - 1}: number}}"
    return type(knob).__name__
