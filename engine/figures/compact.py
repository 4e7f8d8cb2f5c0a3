"""One layer in each compact design: its weights, its multiply-adds, and how many inputs an output reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

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

    `intensity` is multiply-adds for each number that its convolutions read or write; times are those that
    `engine.figures.latency.designs` takes.
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
