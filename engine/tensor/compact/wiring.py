"""Which channels a design connects, how far an output reaches, and how many weights that takes.

A design is a chain of convolutions in place of one: depthwise separable (Howard 2017, MobileNets, arXiv
1704.04861), in groups, in groups with a shuffle (Zhang 2018, ShuffleNet, arXiv 1707.01083), or an inverted
bottleneck (Sandler 2018, MobileNetV2, arXiv 1801.04381). No activation lies between its parts, so that the
chain is one kernel with fewer free numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.types import SlimscopeError

NAMES = ("separable", "grouped", "shuffled", "inverted")


@dataclass(frozen=True)
class Design:
    """A name of NAMES or `standard`, groups of the grouped ones, how much wider an inverted middle is.

    Raises SlimscopeError for another name, and for less than one group or expansion.
    """

    name: str
    groups: int = 1
    expansion: int = 1

    def __post_init__(self) -> None:
        if self.name not in ("standard", *NAMES):
            raise SlimscopeError(f"design is {self.name[:40]!r}: allowed is one of {', '.join(NAMES)}")
        for setting, value in (("groups", self.groups), ("expansion", self.expansion)):
            if value < 1:
                raise SlimscopeError(f"{setting} of a design is {value}: allowed are numbers from 1 on")

    @property
    def is_grouped(self) -> bool:
        return self.name in ("grouped", "shuffled")


def why_not(design: Design, inputs: int, outputs: int, area: int) -> str:
    """Why a convolution with `area` weights a kernel can't have this design, or gains nothing; else nothing.

    >>> why_not(Design("grouped", 4), 10, 16, 9)
    'its 10 inputs are no multiple of 4'
    >>> why_not(Design("inverted", expansion=6), 64, 64, 9)
    'the design would make 52,608 weights out of 36,864'
    """
    if design.is_grouped:
        for count, what in ((inputs, "inputs"), (outputs, "outputs")):
            if count % design.groups:
                return f"its {count} {what} are no multiple of {design.groups}"
    before, after = inputs * outputs * area, sum(weights(design, inputs, outputs, area))
    return "" if after < before else f"the design would make {after:,} weights out of {before:,}"


def weights(design: Design, inputs: int, outputs: int, area: int) -> tuple[int, ...]:
    """Weights of each convolution of the design, in order; the one with `area` weights a kernel strides.

    >>> sum(weights(Design("separable"), 64, 64, 9)) / (9 * 64 * 64) == 1 / 64 + 1 / 9
    True
    """
    groups, middle = design.groups, design.expansion * inputs
    match design.name:
        case "separable":
            return (area * inputs, inputs * outputs)
        case "grouped":
            return (area * inputs * outputs // groups,)
        case "shuffled":
            return (area * inputs * outputs // groups, outputs * outputs // groups)
        case "inverted":
            return (inputs * middle, area * middle, middle * outputs)
    return (area * inputs * outputs,)


def macs(design: Design, inputs: int, outputs: int, area: int, before: int, after: int) -> tuple[int, ...]:
    """Multiply-adds of each convolution, where `before` places of an image enter and `after` come out.

    >>> macs(Design("inverted", expansion=2), 8, 8, 9, 4, 1)
    (512, 144, 128)
    """
    first, *rest = weights(design, inputs, outputs, area)
    if design.name == "inverted":  # the one that widens does not stride
        return (first * before, *(own * after for own in rest))
    return tuple(own * after for own in (first, *rest))


# ---------------------------------------------------------------- which channels are connected


def stages(design: Design, inputs: int, outputs: int) -> list[Tensor]:
    """For each convolution of the design, (its outputs, its inputs) bool: which it connects.

    Channels keep the number that they were made under: a shuffle shows in the columns of the next one.

    >>> stages(Design("grouped", 2), 2, 4)[0].int().tolist()
    [[1, 0], [1, 0], [0, 1], [0, 1]]
    """
    groups, middle = design.groups, design.expansion * inputs
    match design.name:
        case "separable":
            return [_blocks(inputs, inputs, inputs), _blocks(outputs, inputs, 1)]
        case "grouped":
            return [_blocks(outputs, inputs, groups)]
        case "shuffled":
            second = torch.zeros(outputs, outputs, dtype=torch.bool)
            second[:, channel_order(outputs, groups)] = _blocks(outputs, outputs, groups)
            return [_blocks(outputs, inputs, groups), second]
        case "inverted":
            return [
                _blocks(middle, inputs, 1),
                _blocks(middle, middle, middle),
                _blocks(outputs, middle, 1),
            ]
    return [_blocks(outputs, inputs, 1)]


def _blocks(rows: int, columns: int, groups: int) -> Tensor:
    row, column = torch.arange(rows) * groups // rows, torch.arange(columns) * groups // columns
    return row[:, None] == column[None, :]


def reached(parts: Sequence[Tensor]) -> list[Tensor]:
    """After each of these convolutions, how many of the first inputs each of its outputs hangs on.

    >>> two = stages(Design("shuffled", 2), 4, 4)
    >>> [count.tolist() for count in reached(two)]
    [[2, 2, 2, 2], [4, 4, 4, 4]]
    """
    found, seen = [], torch.eye(parts[0].shape[1], dtype=torch.bool)
    for part in parts:
        seen = (part.float() @ seen.float()) > 0
        found.append(seen.sum(1))
    return found


# ---------------------------------------------------------------- the shuffle


def channel_order(channels: int, groups: int) -> Tensor:
    """Which channel stands at each place after a shuffle: one of each group in turns.

    >>> channel_order(6, 2).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return torch.arange(channels).view(groups, -1).t().flatten()


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels of (n, channels, h, w) in the order of `channel_order`, as `nn.ChannelShuffle` has it."""
    n, channels, height, width = x.shape
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():  # stays in that order
        last = x.permute(0, 2, 3, 1).reshape(n, height, width, groups, channels // groups)
        return last.transpose(3, 4).reshape(n, height, width, channels).permute(0, 3, 1, 2)
    parts = x.reshape(n, groups, channels // groups, height, width)
    return parts.transpose(1, 2).reshape(n, channels, height, width)
