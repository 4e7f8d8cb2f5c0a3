"""What passes between layers: values that enter them, and which batch-norm is behind which layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.sets import Data
from engine.net import zoo
from engine.net.surgery import get_layer
from engine.types import Bundle, SlimscopeError

CALIBRATION = 256  # images of the training split that static activation ranges are read from
# Layers that multiply what they are called with.
LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
SKETCH = 2**17  # values of a layer's input that percentile and MSE ranges look at


def module_of(weight: str) -> str:
    """The name of the module that a weight belongs to.

    >>> module_of("fc1.weight"), module_of("cell.parametrizations.weight.0")
    ('fc1', 'cell')
    """
    return weight.rpartition(".")[0].partition(".parametrizations.")[0]


def inputs_seen(bundle: Bundle, data: Data, modules: Sequence[str], range: str) -> dict[str, Tensor]:
    """What enters each module for the calibration images: a flat, even sketch of it.

    Left out are modules that are no `LAYERS`, that nobody calls (attention reads its last matrix by
    itself), or that are given anything but a tensor of floats.
    """
    for verb, own in bundle.arch.edits:
        if verb == "quantize_input" and own["layer"] in modules:
            raise SlimscopeError(
                f"the input of layer {own['layer']!r} is quantized already; remove one of the two steps"
            )
    net, seen = zoo.fork(bundle).eval(), dict[str, Tensor]()

    def tap(name: str) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
                now = _sketch(args[0].flatten(), range)
                seen[name] = torch.cat([seen[name], now]) if name in seen else now  # of every call

        return look

    for name in modules:
        if isinstance(layer := get_layer(net, name), LAYERS):
            layer.register_forward_pre_hook(tap(name))
    with torch.no_grad():
        net(data.train.stratified(CALIBRATION).inputs())
    return {name: seen[name] for name in modules if name in seen}


def _sketch(values: Tensor, range: str) -> Tensor:
    """About `SKETCH` of the values, an odd stride apart; for a min-max range the extremes join them.

    >>> len(_sketch(torch.zeros(3 * SKETCH), "mse"))
    131072
    """
    if len(values) <= SKETCH:
        return values
    sketch = values[:: -(-len(values) // SKETCH) | 1]
    return torch.cat([sketch, *(t.view(1) for t in values.aminmax())]) if range == "minmax" else sketch
