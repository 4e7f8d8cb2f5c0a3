"""What passes between layers: values that enter them, and which batch-norm is behind which layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.net import sources, zoo
from engine.net.surgery import get_layer
from engine.types import Arch, Bundle, SlimscopeError

CALIBRATION = 256  # images of the training split that static activation ranges are read from
# Layers that multiply what they are called with.
LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
SKETCH = 2**17  # values of a layer's input that ranges look at, but for the extremes


def module_of(weight: str) -> str:
    """The name of the module that a weight belongs to.

    >>> module_of("fc1.weight"), module_of("cell.parametrizations.weight.0")
    ('fc1', 'cell')
    """
    return weight.rpartition(".")[0].partition(".parametrizations.")[0]


def is_inside(weight: str) -> bool:
    """Whether a weight reads what its recurrent module passes on inside of it, not what enters the module.

    >>> [is_inside(name) for name in ("lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l1_reverse")]
    [False, True, True]
    """
    return re.search(r"(^|\.)weight_(hh|hr|ih_l[1-9])", weight) is not None


def notes_of_states(weights: Iterable[str]) -> tuple[str, ...]:
    """What a step that rounds inputs says where some weights read inner states."""
    said = "Inside of a recurrent layer the states that pass from step to step stay 32-bit floats."
    return (said,) if any(map(is_inside, weights)) else ()


def has_name(module: str) -> str:
    """A module's name, for steps that store numbers under it; SlimscopeError where it is the whole model."""
    if not module:
        raise SlimscopeError(
            "the model is one layer without a name, and no step size can be stored for what enters it; "
            "put it into an nn.Sequential, or leave activations as they are"
        )
    return module


@dataclass(frozen=True, eq=False)
class Seen:
    """What entered a layer: a flat, even sketch of it, and the extremes of each image, in their order.

    Where the first axis is not the images, each call's extremes.
    """

    values: Tensor
    lows: Tensor
    highs: Tensor


Meet = Callable[[str, nn.Module, Tensor], None]  # is told of each call: name, module, what enters it


def calibration(data: Data, count: int = CALIBRATION) -> Tensor:
    """Inputs of the training images that static activation ranges are read from."""
    return data.train.stratified(count).inputs()


def inputs_seen(
    bundle: Bundle, images: Tensor, modules: Sequence[str], range: str, meet: Meet = lambda *_: None
) -> dict[str, Seen]:
    """What enters each module for these images, of which `meet` is told as well.

    Left out are modules that are no `LAYERS`, that nobody calls (attention reads its last matrix by
    itself), or that are given anything but a tensor of floats.
    """
    for verb, own in bundle.arch.edits:
        if verb == "quantize_input" and own["layer"] in modules:
            raise SlimscopeError(
                f"the input of layer {own['layer']!r} is quantized already; remove one of the two steps"
            )
    net, seen = zoo.fork(bundle).eval(), dict[str, Seen]()

    def tap(name: str) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
                now = _seen(args[0], len(images), range)
                seen[name] = _joined(seen[name], now) if name in seen else now  # of every call
                meet(name, module, args[0])

        return look

    for name in modules:
        if isinstance(layer := get_layer(net, name), LAYERS):
            layer.register_forward_pre_hook(tap(name))
    with torch.no_grad():
        net(images)
    return {name: seen[name] for name in modules if name in seen}


def outputs_seen(bundle: Bundle, images: Tensor, modules: Sequence[str], range: str) -> dict[str, Seen]:
    """What leaves each module for these images; those that nobody calls are left out."""
    net, seen = zoo.fork(bundle).eval(), dict[str, Seen]()

    def tap(name: str) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            now = _seen(output, len(images), range)
            seen[name] = _joined(seen[name], now) if name in seen else now

        return look

    for name in modules:
        get_layer(net, name).register_forward_hook(tap(name))
    with torch.no_grad():
        net(images)
    return {name: seen[name] for name in modules if name in seen}


def _seen(values: Tensor, images: int, range: str) -> Seen:
    each = values.flatten(1) if values.dim() > 1 and len(values) == images else values.reshape(1, -1)
    return Seen(_sketch(values.flatten(), range), each.amin(1), each.amax(1))


def _joined(one: Seen, other: Seen) -> Seen:
    parts = ((one.values, other.values), (one.lows, other.lows), (one.highs, other.highs))
    return Seen(*(torch.cat(both) for both in parts))


def _sketch(values: Tensor, range: str) -> Tensor:
    """About `SKETCH` of the values, an odd stride apart; for a min-max range the extremes join them.

    >>> len(_sketch(torch.zeros(3 * SKETCH), "mse"))
    131072
    """
    if len(values) <= SKETCH:
        return values
    sketch = values[:: -(-len(values) // SKETCH) | 1]
    return torch.cat([sketch, *(t.view(1) for t in values.aminmax())]) if range == "minmax" else sketch


def normal_behind(arch: Arch) -> dict[str, str]:
    """Layer -> the batch-norm that its output goes into, as it is; the net is followed without numbers."""
    net = zoo.skeleton(arch).eval()
    made: dict[int, tuple[str, Tensor, int]] = {}  # with the tensor, so that its id is not used again
    found: dict[str, str] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: made.update({id(output): (name, output, output._version)})

    def meet(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            layer, _, version = made.get(id(args[0]), ("", None, 0))
            if layer and args[0]._version == version:  # else a function has changed it in its place
                found[layer] = name

        return hook

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            module.register_forward_hook(note(name))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.register_forward_pre_hook(meet(name))
    net(sources.inputs(arch).to("meta"))
    return found
