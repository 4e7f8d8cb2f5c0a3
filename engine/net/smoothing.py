"""SmoothQuant in a model: ranges of channels on samples, the fold, and what rounding costs a layer behind it.

Xiao et al. 2023, SmoothQuant, arXiv 2211.10438. What a layer is given is divided by the factors, its weights
are multiplied by them: its outputs stay, and both are rounded with other errors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import zoo
from engine.net.channels.migrating import migrations
from engine.net.channels.parts import Group, Part
from engine.net.input_quantizer import InputQuantizer, alone_of
from engine.net.surgery import get_layer
from engine.net.taps import inputs_seen, module_of
from engine.tensor import equalize, grids, smooth
from engine.tensor.formats import Dense
from engine.tensor.granularity import TENSOR
from engine.types import Bundle, Param

BITS = 8  # of weights and inputs, where errors are told
ROWS = 512  # tokens that errors are measured on; a sixteenth of it where they are images
ALPHAS = tuple(number / 20 for number in range(21))


@dataclass(frozen=True)
class Ranges:
    """The largest magnitudes of each channel (channels,): of what enters its readers, of their weights."""

    inputs: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What samples show: maker -> its ranges, and reader -> some of what enters it.

    That is evenly spaced tokens (ROWS, inputs), or images for a convolution.
    """

    ranges: Mapping[str, Ranges]
    entered: Mapping[str, Tensor]


def readers(known: Mapping[str, Group]) -> dict[str, tuple[str, Part]]:
    """Reader -> who makes what it reads, and where the channels lie in its weight."""
    return {module_of(part.param): (maker, part) for maker, group in known.items() for part in group.reads}


@remembered  # a slider moves many times over the same model
@torch.no_grad()
def seen(bundle: Bundle, train: Samples, count: int) -> Seen:
    """What so many training samples show of all layers whose inputs can be divided.

    Raises SlimscopeError where what enters them is rounded already.
    """
    known = migrations(bundle.arch)
    read = readers(known)
    highs, entered = dict[str, Tensor](), dict[str, Tensor]()

    def meet(name: str, layer: nn.Module, x: Tensor) -> None:
        maker, part = read[name]
        high = equalize.ranges(x, channel_axis(layer, x), part.at, part.block)
        highs[maker] = torch.maximum(highs[maker], high) if maker in highs else high
        rows = x.flatten(0, -2) if isinstance(layer, nn.Linear) else x[: ROWS // 16]
        entered[name] = rows[:: -(-len(rows) // ROWS)].clone()

    inputs_seen(bundle, train.stratified(count).inputs(), list(read), "mse", meet)
    found = {maker: Ranges(highs[maker], _largest(bundle, known[maker].reads)) for maker in highs}
    return Seen(MappingProxyType(found), MappingProxyType(entered))


def _largest(bundle: Bundle, reads: Sequence[Part]) -> Tensor:
    each = [equalize.ranges(bundle.params[p.param].decode(), p.axis, p.at, p.block) for p in reads]
    return torch.stack(each).amax(0)


def channel_axis(layer: nn.Module, x: Tensor) -> int:
    """Along which axis of its input a layer reads channels: the last of a linear one, else the second.

    >>> channel_axis(nn.Linear(3, 1), torch.zeros(2, 5, 3))
    2
    """
    return x.dim() - 1 if isinstance(layer, nn.Linear) else 1


def smoothed(bundle: Bundle, known: Mapping[str, Group], factors: Mapping[str, Tensor]) -> Bundle:
    """The bundle with each maker's channels divided by its factors, and its readers multiplied by them.

    What changes is 32-bit floats then; makers whose factors are all 1 stay in their format.
    """
    params: dict[str, Param] = dict(bundle.params)
    for maker, each in factors.items():
        if bool((each == 1).all()):
            continue
        for part, factor in (
            *((part, 1 / each.double()) for part in known[maker].makes),
            *((part, each.double()) for part in known[maker].reads),
        ):
            values = params[part.param].decode().double()
            places = equalize.along(part.at, part.block, factor, values.shape[part.axis])
            params[part.param] = Dense(equalize.scaled(values, part.axis, places).float())
    return bundle.become(params)


# ---------------------------------------------------------------- what rounding costs


@torch.no_grad()
def output_error(layer: nn.Module, x: Tensor, part: Part, factors: Tensor) -> float:
    """How far rounding moves a layer's outputs: norm of the difference over that of outputs, without bias.

    Weights have one scale of BITS bits, inputs one for each row of `x`, both symmetric; inputs are divided by
    the factors (channels,) before, and weights multiplied.
    """
    weight: Any = layer.weight
    axis = channel_axis(layer, x)
    divided = equalize.scaled(x, axis, equalize.along(part.at, part.block, 1 / factors, x.shape[axis]))
    places = equalize.along(part.at, part.block, factors, weight.shape[part.axis])
    rounded = grids.quantize(equalize.scaled(weight, part.axis, places), BITS, True, TENSOR, "minmax")
    other: Any = copy.deepcopy(layer)
    other.weight.copy_(rounded.decode())
    quantizer = InputQuantizer(BITS, True, True, alone_of(layer)).eval()
    zero: Tensor = layer(torch.zeros_like(x[:1]))  # its bias
    wanted = layer(x) - zero
    norm = float(wanted.norm())
    return float((other(quantizer(divided)) - zero - wanted).norm()) / norm if norm > 0 else 0.0


@remembered
def error_along(bundle: Bundle, train: Samples, count: int, reader: str) -> tuple[float, ...]:
    """The error of one reader's outputs at each of ALPHAS, and before anything moves (`output_error`)."""
    found = seen(bundle, train, count)
    maker, part = readers(migrations(bundle.arch))[reader]
    ranges, layer = found.ranges[maker], get_layer(zoo.build(bundle), reader)
    every = [smooth.factors(ranges.inputs, ranges.weights, alpha) for alpha in ALPHAS]
    every.append(torch.ones_like(ranges.inputs))
    return tuple(output_error(layer, found.entered[reader], part, factors) for factors in every)
