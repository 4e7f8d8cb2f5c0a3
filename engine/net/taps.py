"""What passes between layers: values that enter them, and which batch-norm is behind which layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.net import sources, zoo
from engine.net.surgery import get_layer
from engine.types import Bundle, SlimscopeError

CALIBRATION = 256  # images of the training split that static activation ranges are read from
SKETCH = 2**17  # values of a layer's input that percentile and MSE ranges look at


def inputs_seen(bundle: Bundle, data: Data, modules: Sequence[str], range: str) -> dict[str, Tensor]:
    """What enters each module for the calibration images: a flat, even sketch of it."""
    for verb, own in bundle.arch.edits:
        if verb == "quantize_input" and own["layer"] in modules:
            raise SlimscopeError(
                f"the input of layer {own['layer']!r} is quantized already; remove one of the two steps"
            )
    net, seen = zoo.fork(bundle).eval(), {}

    def tap(name: str) -> Any:
        def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen[name] = _sketch(args[0].flatten(), range)

        return look

    for name in modules:
        get_layer(net, name).register_forward_pre_hook(tap(name))
    with torch.no_grad():
        net(data.train.stratified(CALIBRATION).inputs())
    return {name: seen[name] for name in modules}


def _sketch(values: Tensor, range: str) -> Tensor:
    """About `SKETCH` of the values, an odd stride apart; for a min-max range the extremes join them.

    >>> len(_sketch(torch.zeros(3 * SKETCH), "mse"))
    131072
    """
    if len(values) <= SKETCH:
        return values
    sketch = values[:: -(-len(values) // SKETCH) | 1]
    return torch.cat([sketch, *(t.view(1) for t in values.aminmax())]) if range == "minmax" else sketch


def normal_scales(bundle: Bundle) -> dict[str, Tensor]:
    """Layer -> scale of the batch-norm that its output goes into, (outputs,); followed without numbers."""
    if not bundle.arch.runs:
        raise SlimscopeError("score 'batch-norm' must know what is behind a layer: it needs an architecture")
    net = zoo.skeleton(bundle.arch).eval()
    made: dict[int, tuple[str, Tensor]] = {}  # with the tensor, so that its id is not used again
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: made.update({id(output): (name, output)})

    def meet(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if id(args[0]) in made:
                found[made[id(args[0])][0]] = bundle.params[f"{name}.weight"].decode()

        return hook

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note(name))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_pre_hook(meet(name))
    net(sources.inputs(bundle.arch).to("meta"))
    return found
