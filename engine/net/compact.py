"""A convolution in a compact design, as modules: how they are made, filled, and what they are fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.tensor import compact
from engine.tensor.compact import Design, Factors, Moments
from engine.tensor.compact.fitting import outer
from engine.types import SlimscopeError

BATCH = 32  # images at once while moments are taken


class ChannelShuffle(nn.Module):
    """Deals the channels of each group out over all groups, as torch's own does, in operations of ONNX.

    >>> x = torch.arange(6.0).view(1, 6, 1, 1)
    >>> torch.equal(ChannelShuffle(3)(x), nn.ChannelShuffle(3)(x))
    True
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return compact.shuffled(x, self.groups)


class CondensedConv2d(nn.Conv2d):
    """A convolution in groups that each read their own choice of the input channels.

    What enters is gathered, group by group, and convolved in groups; what comes out is shuffled, so
    that filter j of group g is output channel `j * groups + g` (Huang 2018, arXiv 1711.09224).
    """

    def __init__(self, old: nn.Conv2d, reads: list[list[int]]) -> None:
        super().__init__(
            sum(map(len, reads)),
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            old.dilation,  # type: ignore[arg-type]
            len(reads),
            old.bias is not None,
        )
        # Not a number of the net but its wiring: it lies in the edit, also while numbers have no memory.
        self.gather = torch.tensor([channel for group in reads for channel in group], device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(torch.index_select(x, 1, self.gather.to(self.weight.device)))
        return compact.shuffled(y, self.groups)


def with_kernel(old: nn.Module, size: int) -> nn.Conv2d:
    """A convolution like another with a smaller square kernel, with fresh numbers.

    It reads around the same places with less padding; where there is too little, its weights lie as far
    apart as the old kernel was wide. Raises SlimscopeError where neither gives outputs of the same size.

    >>> with_kernel(nn.Conv2d(3, 8, 3, padding=1), 1).padding, with_kernel(nn.Conv2d(3, 8, 5), 3).dilation
    ((0, 0), (2, 2))
    """
    if not isinstance(old, nn.Conv2d) or type(old).forward is not nn.Conv2d.forward:
        raise SlimscopeError(f"{type(old).__name__} is no plain 2-D convolution: its kernel can't be smaller")
    own, padding = old.kernel_size, old.padding
    if isinstance(padding, str) or not all(1 <= size < side and (side - size) % 2 == 0 for side in own):
        raise SlimscopeError(f"a kernel of {own[0]}x{own[1]}, padded by {padding}, can't be {size}x{size}")
    sides = [_side(*each, size) for each in zip(own, old.dilation, padding, strict=True)]
    apart, around = zip(*sides, strict=True)
    return nn.Conv2d(
        old.in_channels,
        old.out_channels,
        size,
        old.stride,  # type: ignore[arg-type]
        around,
        apart,
        old.groups,
        old.bias is not None,
        old.padding_mode,
    )


def _side(own: int, dilation: int, padding: int, size: int) -> tuple[int, int]:
    """Dilation and padding of a smaller kernel along one side of the image."""
    less = dilation * (own - size) // 2
    if less <= padding:
        return dilation, padding - less
    if size > 1 and (own - 1) % (size - 1) == 0:
        return dilation * (own - 1) // (size - 1), padding
    raise SlimscopeError(f"a kernel of {own} points, padded by {padding}, can't have {size}")


def why_not(layer: nn.Module, design: Design) -> str:
    """Why a layer can't be replaced by a design, or gains nothing; else nothing.

    >>> why_not(nn.Conv2d(8, 8, 1), Design("separable"))
    'a 1x1 convolution is cheap already'
    """
    if not isinstance(layer, nn.Conv2d):
        return "it is no 2-D convolution"
    if layer.groups != 1:
        return "it is in groups already"
    if type(layer).forward is not nn.Conv2d.forward:
        return "it has a way of its own"
    if layer.kernel_size == (1, 1):
        return "a 1x1 convolution is cheap already"
    if layer.padding_mode != "zeros":
        return f"it pads by {layer.padding_mode}, not by zeros"
    return compact.why_not(design, layer.in_channels, layer.out_channels, area_of(layer))


def area_of(layer: nn.Conv2d) -> int:
    """Weights of one kernel."""
    height, width = layer.kernel_size
    return height * width


def chain(old: nn.Conv2d, design: Design) -> nn.Sequential:
    """The design in place of a convolution, with fresh numbers; its last part has the bias.

    Raises SlimscopeError where the convolution can't have it.

    >>> [tuple(p.shape) for p in chain(nn.Conv2d(4, 6, 3), Design("separable")).parameters()]
    [(4, 1, 3, 3), (6, 4, 1, 1), (6,)]
    """
    if why := why_not(old, design):
        raise SlimscopeError(f"a {type(old).__name__} can't be {design.name}: {why}")
    inputs, outputs, groups = old.in_channels, old.out_channels, design.groups
    middle, bias = design.expansion * inputs, old.bias is not None
    place: dict[str, Any] = {
        "kernel_size": old.kernel_size,
        "stride": old.stride,
        "padding": old.padding,
        "dilation": old.dilation,
    }
    match design.name:
        case "separable":
            parts: list[nn.Module] = [
                nn.Conv2d(inputs, inputs, groups=inputs, bias=False, **place),
                nn.Conv2d(inputs, outputs, 1, bias=bias),
            ]
        case "shuffled":
            parts = [
                nn.Conv2d(inputs, outputs, groups=groups, bias=False, **place),
                ChannelShuffle(groups),
                nn.Conv2d(outputs, outputs, 1, groups=groups, bias=bias),
            ]
        case "inverted":
            parts = [
                nn.Conv2d(inputs, middle, 1, bias=False),
                nn.Conv2d(middle, middle, groups=middle, bias=False, **place),
                nn.Conv2d(middle, outputs, 1, bias=bias),
            ]
        case _:
            parts = [nn.Conv2d(inputs, outputs, groups=groups, bias=bias, **place)]
    return nn.Sequential(*parts)


def state_of(factors: Factors, design: Design, shape: Sequence[int]) -> dict[str, Tensor]:
    """The weights of a `chain` with these factors, by their names; `shape` is that of one kernel."""
    reads, mixes = factors.reads, factors.mixes
    outputs, inputs = len(mixes), reads.shape[1]
    wiring = compact.stages(design, inputs, outputs)
    if design.name == "inverted":
        columns, rows = map(torch.stack, zip(*map(outer, reads), strict=True))
        found = {"0": columns[:, :, None, None], "1": rows.view(-1, 1, *shape), "2": mixes[:, :, None, None]}
    else:
        found = {"0": reads[wiring[0]].view(len(reads), -1, *shape)}
    if design.name == "separable":
        found["1"] = mixes[:, :, None, None]
    elif design.name == "shuffled":
        order = compact.channel_order(outputs, design.groups)
        found["2"] = mixes[:, order][wiring[1][:, order]].view(outputs, -1, 1, 1)
    return {f"{part}.weight": values.float().contiguous() for part, values in found.items()}


# ---------------------------------------------------------------- what a layer is fitted to


@torch.no_grad()
def moments(
    teacher: nn.Module, student: nn.Module, label: str, images: Tensor
) -> tuple[Moments, Tensor, Tensor]:
    """What the layer reads in the student beside what it gives in the teacher, over images and places.

    With it the means of both: (n,) and (outputs,), which a bias takes over; without a bias they are
    zero, and moments are about zero. Of a layer that is called twice the first call counts. Raises
    SlimscopeError where it is never called.
    """
    layer, sums = student.get_submodule(label), _Sums()
    assert isinstance(layer, nn.Conv2d)
    for batch in torch.split(images, BATCH):
        given, asked = _at(teacher, label, batch)[1], _at(student, label, batch)[0]
        sums.add(patches(layer, asked), given.movedim(1, 0).flatten(1))
    return sums.moments(layer.bias is not None)


class _Reached(Exception):
    """A net has come to the layer that is looked at: what lies behind it need not run."""


def _at(net: nn.Module, label: str, batch: Tensor) -> tuple[Tensor, Tensor]:
    """What enters a layer, and what it gives."""
    seen: list[tuple[Tensor, Tensor]] = []

    def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((args[0], output))
        raise _Reached

    hook = net.get_submodule(label).register_forward_hook(look)
    try:
        net(batch)
    except _Reached:
        return seen[0]
    finally:
        hook.remove()
    raise SlimscopeError(f"layer {label!r} is never called: there is nothing to fit it to")


def patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What a convolution's kernel reads of (n, inputs, h, w), place by place: (inputs * area, places)."""
    padded = F.pad(x, layer._reversed_padding_repeated_twice)
    columns = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
    return columns.movedim(1, 0).flatten(1)


class _Sums:
    """Sums over places, in 64 bits."""

    def __init__(self) -> None:
        self.count = 0
        self.reads, self.cross, self.squares = (torch.zeros((), dtype=torch.float64) for _ in range(3))
        self.read, self.given = (torch.zeros((), dtype=torch.float64) for _ in range(2))

    def add(self, columns: Tensor, outputs: Tensor) -> None:
        self.count += columns.shape[1]
        columns, outputs = columns.double(), outputs.double()  # else what is left may have no square root
        self.reads = self.reads + columns @ columns.t()
        self.cross = self.cross + outputs @ columns.t()
        self.squares = self.squares + outputs.square().sum()
        self.read = self.read + columns.sum(1)
        self.given = self.given + outputs.sum(1)

    def moments(self, about_means: bool) -> tuple[Moments, Tensor, Tensor]:
        n, off = self.count, float(about_means)
        read, given = off * self.read / n, off * self.given / n
        reads, cross = self.reads / n - torch.outer(read, read), self.cross / n - torch.outer(given, read)
        return Moments(reads, cross, float(self.squares / n - given @ given)), read, given
