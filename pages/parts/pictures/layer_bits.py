"""Bits of layers as bars, the redder the more the model loses by a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.figures.mixed_bits import Deal
from pages.parts import charts
from pages.parts.anatomy import colours
from pages.parts.live import Marks, Scene

MOST_NAMES = 8  # layers whose names fit under the bars
ENDS = ((0x8C, 0x96, 0xA3), (0xD5, 0x5E, 0x00))  # a bar's colour where least is lost, and where most is


def empty(scene: Scene) -> charts.Chart:
    """Axes for the bits of each layer."""
    return axes(scene.labels, "bits", {"range": [0, 8.9], "dtick": 2})


def axes(labels: Sequence[str], title: str, up: Mapping[str, Any]) -> charts.Chart:
    """Axes with a place for each layer."""
    drawn = charts.plane("layer", title, (-0.6, len(labels) - 0.4))
    places = list(range(len(labels))) if len(labels) <= MOST_NAMES else []
    drawn["layout"]["xaxis"] |= {"tickvals": places, "ticktext": list(labels), "showgrid": False}
    drawn["layout"]["height"] = 230
    drawn["layout"]["yaxis"] |= up
    return drawn


def bars(scene: Scene, dealt: Deal) -> Marks:
    """A bar for each layer, the redder the more the model loses by it; a line at the uniform width."""
    at = {label: place for place, label in enumerate(scene.labels)}
    marks: list[dict[str, Any]] = [
        {"kind": "bars", "at": [at[layer]], "heights": [dealt.bits[layer]], "wide": 0.8, "colour": colour}
        for layer, colour in shades(scene).items()
    ]
    if dealt.uniform is not None:
        ends = {"xs": [-0.6, len(at) - 0.4], "ys": [dealt.uniform, dealt.uniform]}
        marks.append({"kind": "path", **ends, "colour": charts.ORIGINAL})
    if scene.layer in dealt.bits:
        bits = dealt.bits[scene.layer]
        here = {"x": at[scene.layer], "y": bits, "text": f"{scene.layer}: {bits} bits"}
        marks.append({"kind": "dot", **here, "colour": charts.CHANGED})
    return {"bits": marks}


def narrowest(scene: Scene) -> dict[str, float]:
    """What is expected to be lost by each layer alone in the narrowest width."""
    told = scene.report.tables["widths"]
    rows = told[told["bits"] == told["bits"].min()]
    return {str(x): float(own) for x, own in zip(rows["layer"], rows["sensitivity"], strict=True)}


def shades(scene: Scene) -> dict[str, str]:
    """The colour of each layer's bar: by the logarithm of what is lost."""
    lost = narrowest(scene)
    logs = {layer: math.log(own) for layer, own in lost.items() if own > 0}
    low, high = min(logs.values(), default=0.0), max(logs.values(), default=0.0)
    shares = {x: (logs[x] - low) / (high - low) if x in logs and high > low else 0.0 for x in lost}
    return {x: f"#{bytes(colours.between(*ENDS, share)).hex()}" for x, share in shares.items()}


def said(scene: Scene, uniform: int | None) -> str:
    """What colours and line mean."""
    lost = narrowest(scene)
    if not lost:
        return "No layer is touched."
    most, least = max(lost, key=lambda x: lost[x]), min(lost, key=lambda x: lost[x])
    line = "" if uniform is None else f" Line: {uniform} bits for all fit, too."
    return f"Redder: loses more alone ({most} most, {least} least).{line}"
