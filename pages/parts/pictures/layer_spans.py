"""Times of layers as bars: wide and grey as they are, narrow and in colour with the bits of a budget of time."""

from __future__ import annotations

from typing import Any

from engine.figures.mixed_bits import AS_IT_IS, TIME, Deal, at
from pages.parts import charts
from pages.parts.live import Marks, Scene
from pages.parts.pictures import layer_bits

ON_CODES, ON_FLOATS = "#009e73", charts.KEPT


def empty(scene: Scene) -> charts.Chart:
    """Axes for the time of each layer, up to the longest."""
    longest = max([1, *scene.report.tables["widths"][TIME]]) / 1e3
    return layer_bits.axes(scene.labels, "microseconds", {"range": [0, 1.15 * longest]})


def bars(scene: Scene, dealt: Deal) -> Marks:
    """Each layer's time as it is, and with its bits; a dot on the layer in view."""
    place = {label: x for x, label in enumerate(scene.labels)}
    before, now = (_spent(scene, bits) for bits in (dict.fromkeys(dealt.bits, AS_IT_IS), dict(dealt.bits)))
    marks: list[dict[str, Any]] = [_bars(place, before, 0.8, charts.ORIGINAL)]
    for colour, on_codes in ((ON_CODES, True), (ON_FLOATS, False)):
        own = {x: time for x, time in now.items() if (dealt.bits[x] < AS_IT_IS) == on_codes}
        marks.append(_bars(place, own, 0.5, colour))
    if scene.layer in now:
        here = {"x": place[scene.layer], "y": now[scene.layer]}
        marks.append({"kind": "dot", **here, "colour": charts.CHANGED})
    return {"bits": marks}


def _bars(place: dict[str, int], times: dict[str, float], wide: float, colour: str) -> dict[str, Any]:
    at_x, heights = [place[layer] for layer in times], list(times.values())
    return {"kind": "bars", "at": at_x, "heights": heights, "wide": wide, "colour": colour}


def _spent(scene: Scene, bits: dict[str, int]) -> dict[str, float]:
    """Layer -> microseconds."""
    rows = at(scene.report.tables["widths"], bits)
    return dict(zip(rows["layer"], (rows[TIME] / 1e3).tolist(), strict=True))


def said(scene: Scene, uniform: int | None) -> str:
    """The layer in view in numbers, what the bars mean, and what no width below 8 bits would win."""
    return f"{_here(scene)}Grey: on floats, as it is; green: on 8-bit codes now, and narrower ones would take as long; blue: stays."


def _here(scene: Scene) -> str:
    if not scene.row:
        return ""
    now, before = scene.row[TIME] / 1e3, _spent(scene, {scene.layer: AS_IT_IS})[scene.layer]
    if scene.row["bits"] == AS_IT_IS:
        return f"{scene.layer} stays on floats, {before:.3g} µs. "
    return f"{scene.layer} takes {now:.3g} µs instead of {before:.3g}. "
