"""One layer in each compact design: weights and multiply-adds counted, and its time measured side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from engine.figures.latency import stopwatch
from engine.figures.latency.stopwatch import REPEATS, Comparison
from engine.net import compact, kinds, zoo
from engine.net.replacing import FEWEST
from engine.tensor.compact import Design, macs, reached, stages
from engine.types import Basis, Bundle, Figure

STANDARD = Design("standard")
TITLES = {
    "standard": "Standard",
    "separable": "Depthwise separable",
    "grouped": "Grouped",
    "shuffled": "Grouped + shuffle",
    "inverted": "Inverted bottleneck",
}


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of a net, without numbers, and the shapes (n, channels, h, w) that pass it."""

    label: str
    conv: nn.Conv2d
    input: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Inputs, outputs, weights of a kernel, places that enter, places that come out."""
        places = (math.prod(shape[2:]) for shape in (self.input, self.output))
        return (self.conv.in_channels, self.conv.out_channels, compact.area_of(self.conv), *places)  # type: ignore[return-value]

    def built(self, design: Design) -> nn.Module:
        """The layer in a design, with random numbers."""
        if design != STANDARD:
            return compact.chain(self.conv, design).eval()
        own: dict[str, Any] = {"padding": self.conv.padding, "dilation": self.conv.dilation}
        sizes = (self.conv.in_channels, self.conv.out_channels, self.conv.kernel_size, self.conv.stride)
        return nn.Conv2d(*sizes, bias=self.conv.bias is not None, **own).eval()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """A design of one layer; where it can't have it, `why` says so, and there are no figures.

    `intensity` is multiply-adds for each number that its convolutions read or write.
    """

    design: Design
    why: str = ""
    weights: Figure | None = None
    macs: Figure | None = None
    intensity: Figure | None = None
    time: Figure | None = None
    speed_up: Figure | None = None


def layers(bundle: Bundle) -> dict[str, Layer]:
    """The convolutions of a net that a design can take the place of, by label."""
    if not bundle.arch.runs:
        return {}
    modules, found = dict(zoo.skeleton(bundle.arch).named_modules()), {}
    for use in kinds.uses(bundle):
        module = modules.get(use.layer)
        if type(module) is not nn.Conv2d or module.groups > 1 or module.in_channels < FEWEST:
            continue
        if compact.area_of(module) > 1:
            found[use.layer] = Layer(use.layer, module, tuple(use.input), tuple(use.output))
    return found


def example() -> Layer:
    """A layer of 16 channels, for models that have none."""
    with torch.device("meta"):
        return Layer("example", nn.Conv2d(16, 16, 3, padding=1), (1, 16, 8, 8), (1, 16, 8, 8))


def reach(layer: Layer, design: Design, depth: int = 3) -> tuple[Figure, ...]:
    """How many of the layer's inputs its outputs hang on after 1, 2, ... convolutions, the fewest of them.

    Behind the layer stand others of the same design, with as many inputs as outputs.
    """
    inputs, outputs = layer.conv.in_channels, layer.conv.out_channels
    parts = stages(design, inputs, outputs)
    while len(parts) < depth:
        parts += stages(design, outputs, outputs)
    how = "products of the tables of what reads what, as yes or no; the output with the fewest"
    return tuple(
        Figure("inputs reached", int(counts.min()), "channels", Basis.COUNTED, how)
        for counts in reached(parts[:depth])
    )


def designs(groups: int, expansion: int) -> tuple[Design, ...]:
    """Every design, the standard one first."""
    return tuple(Design(name, groups, expansion) if name != "standard" else STANDARD for name in TITLES)


def costs(layer: Layer, wanted: Sequence[Design]) -> tuple[Row, ...]:
    """What the layer would cost in each design, counted on the modules themselves at batch 1."""
    return tuple(_row(layer, design) for design in wanted)


def _row(layer: Layer, design: Design) -> Row:
    why = "" if design == STANDARD else compact.why_not(layer.conv, design)
    if why:
        return Row(design, why)
    inputs, outputs, area, before, after = layer.sizes
    net = layer.built(design)
    table = kinds.layer_table(net, torch.zeros(layer.input))
    multiplied = int(table["macs"].sum())
    stored = sum(p.numel() for p in net.parameters())
    return Row(
        design,
        "",
        Figure("parameters", stored, "parameters", Basis.COUNTED, "elements of the layer's tensors"),
        Figure("multiply-adds", multiplied, "MAC", Basis.COUNTED, "weights x places, batch 1"),
        Figure(
            "multiply-adds per number",
            sum(macs(design, inputs, outputs, area, before, after)) / _moved(layer, design, stored),
            "MAC per number",
            Basis.MODELLED,
            "multiply-adds over what its convolutions read or write once: inputs, weights, outputs",
        ),
    )


def _moved(layer: Layer, design: Design, stored: int) -> int:
    """Numbers that the convolutions of a design read and write, the weights among them."""
    inputs, outputs, _, before, after = layer.sizes
    moved = stored
    strides_at = 1 if design.name == "inverted" else 0
    for number, part in enumerate(stages(design, inputs, outputs)):
        made, read = part.shape
        moved += read * (before if number <= strides_at else after)
        moved += made * (before if number < strides_at else after)
    return moved


# ---------------------------------------------------------------- measured


def timed(layer: Layer, rows: Sequence[Row], batch: int = 1, repeats: int = REPEATS) -> tuple[Row, ...]:
    """The rows with the time of each design, in turns, on one thread of this machine."""
    run = [row for row in rows if not row.why]
    x = torch.randn(batch, *layer.input[1:], generator=torch.Generator().manual_seed(0))
    nets = [layer.built(row.design).requires_grad_(False) for row in run]
    with stopwatch.ALONE, torch.inference_mode():
        taken = stopwatch.timed([partial(net, x) for net in nets], repeats) / 1e6
    how = (
        f"median of {repeats} runs in turns, {stopwatch.WARM_UP} before, batch {batch}, 1 thread, this layer "
        "alone with random numbers; spread: quartiles"
    )
    standard = taken[:, [row.design for row in run].index(STANDARD)]
    compared = {
        row.design: stopwatch.compare(standard, taken[:, number], how) for number, row in enumerate(run)
    }
    return tuple(_timed(row, compared) for row in rows)


def _timed(row: Row, compared: dict[Design, Comparison]) -> Row:
    if row.design not in compared:
        return row
    found = compared[row.design]
    return replace(row, time=found.now, speed_up=None if row.design == STANDARD else found.ratio)


def why_short(rows: Sequence[Row]) -> str:
    """One sentence on the design whose speed-up falls shortest of its ratio of multiply-adds.

    Nothing where no time was taken.
    """
    known = {row.design: row for row in rows if row.time is not None}
    standard = known.get(STANDARD)
    if standard is None or standard.macs is None or standard.intensity is None:
        return ""
    short = {
        design: (standard.macs.value / row.macs.value, row)
        for design, row in known.items()
        if row.macs is not None and row.speed_up is not None and row.speed_up.spread is not None
        if row.speed_up.spread[1] < standard.macs.value / row.macs.value
    }
    if not short:
        return "Here no design falls short of the ratio of its multiply-adds beyond the noise."
    promise, row = max(short.values(), key=lambda own: own[0] / own[1].speed_up.value)  # type: ignore[union-attr]
    assert row.speed_up is not None
    assert row.intensity is not None
    speed = row.speed_up.value
    pace = f"is {speed:.2f} times as fast" if speed >= 1 else f"takes {1 / speed:.2f} times the time"
    return (
        f"{TITLES[row.design.name]} does {promise:.1f} times fewer multiply-adds and {pace}: it multiplies "
        f"{row.intensity.value:.3g} times for each number that it reads or writes, "
        f"the standard convolution {standard.intensity.value:.3g} times, and moving numbers and calling "
        "kernels take time that does not shrink with the multiply-adds."
    )
