"""A technique's controls: what `panel.js` needs to draw and own them, and the settings that it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.recipe import technique
from engine.recipe.knobs import Choice, Entries, Knob, Layers, PerLayer, Picks, Slider, Toggle
from engine.types import Bundle, Step, weight_layers
from pages.parts import components, session, spoken

MOST_STOPS = 500  # a slider with more is a number field


def draw(name: str, bundle: Bundle) -> None:
    """All controls of a technique, set to the recipe's step."""
    step = session.trial(name).step
    components.panel(message(name, step, bundle), session.panel_key(name))


def message(name: str, step: Step, bundle: Bundle) -> dict[str, Any]:
    """What the browser needs: who has been heard, the settings, and each control as it stands for this model."""
    known, now = technique.get(name), session.draft_of(name, step.settings)
    in_picture = Picks | Entries  # set where they are seen
    shown = {n: k for n, k in known.knobs.items() if not isinstance(k, in_picture)}
    folded = {
        n: "Layer by layer" if isinstance(k, Layers | PerLayer) else "More" if k.advanced else ""
        for n, k in shown.items()
    }
    groups = []
    for title in ("", "Layer by layer", "More"):
        controls = [
            control(name, n, k, step.settings[n], bundle) for n, k in shown.items() if folded[n] == title
        ]
        groups += [{"title": title, "controls": controls}] if controls else []
    return {
        "name": name,
        "base": now.base,
        "version": now.version,
        "acknowledged": now.acknowledged,
        "settings": dict(now.settings),
        "defaults": dict(known.defaults),
        "presets": {
            title: {
                "settings": dict(some),
                "words": spoken.said(known, some) or "all settings at their defaults",
                "short": _short(known, some),
            }
            for title, some in known.presets.items()
        },
        "groups": groups,
    }


def _short(known: technique.Technique, some: Mapping[str, Any]) -> str:
    """What a preset sets first, in a word or two; nothing where all is at its default."""
    main = known.main({**known.defaults, **some})
    name = main if main in some else next(iter(some), "")
    if not name:
        return ""
    number = spoken.written(known.knobs[name], some[name])
    return (
        f"{number} {known.knobs[name].unit}" if getattr(known.knobs[name], "unit", "") == "bits" else number
    )


def control(owner: str, name: str, knob: Knob, value: Any, bundle: Bundle) -> dict[str, Any]:
    """One control as JSON: its words, where it matters, and what it can be set to."""
    label = knob.label or name.replace("_", " ").capitalize()
    number = knob.knob if isinstance(knob, PerLayer) else knob
    percent = isinstance(number, Slider) and number.percent
    unit = "" if percent or knob.unit in label.lower() else knob.unit
    title = unit.capitalize() if label.lower() in unit else f"{label} ({unit})" if unit else label
    common = {
        "setting": name,
        "label": label,
        "title": title,
        "help": knob.help,
        "unit": unit,
        "percent": percent,
        "when": [[other, list(values)] for other, values in knob.when],
    }
    match knob:
        case Slider():
            return {"kind": "slider", **common, **_range(owner, name, knob, bundle)}
        case Choice():
            return {"kind": "choice", **common, "options": dict(knob.options)}
        case Toggle():
            return {"kind": "toggle", **common}
        case PerLayer():
            low, high = knob.knob.bounds(bundle)
            known = list(dict.fromkeys([*weight_layers(bundle), *value]))  # one that is gone can be taken out
            return {
                "kind": "table",
                **common,
                "layers": known,
                "low": low,
                "high": high,
                "whole": knob.knob.whole,
            }
        case _:
            return {
                "kind": "layers",
                **common,
                "layers": list(dict.fromkeys([*weight_layers(bundle), *value])),
            }


def _range(owner: str, name: str, knob: Slider, bundle: Bundle) -> dict[str, Any]:
    low, high = knob.bounds(bundle)
    stops = knob.stops(bundle)
    presets = [some[name] for some in technique.get(owner).presets.values() if name in some]
    near = {min(range(len(stops)), key=lambda i: abs(stops[i] - value)) for value in presets}
    return {
        "low": low,
        "high": high,
        "whole": knob.whole,
        "stops": stops if len(stops) <= MOST_STOPS else None,
        "ticks": sorted(near) if len(stops) <= MOST_STOPS else [],
    }


def sliders(name: str, bundle: Bundle) -> dict[str, list[Any]]:
    """The sliders that can be seen: setting -> the values at its stops."""
    step = session.trial(name).step
    return {
        setting: stops
        for setting, knob in technique.get(name).knobs.items()
        if isinstance(knob, Slider)
        and knob.visible(step.settings)
        and len(stops := knob.stops(bundle)) <= MOST_STOPS
    }
