"""What layers give on average, and how a compressed model is brought back to it: biases and batch-norm.

Bias correction (Nagel 2019, Data-Free Quantization, arXiv 1906.04721, section 4.2, with the means of
calibration images), and batch-norm statistics taken anew. Both in one run of all images at once, so that what
follows a layer sees it as it is corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.net import zoo
from engine.tensor.formats import Dense
from engine.types import Bundle

LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BIAS, NORMAL, STATISTICS = "bias", "batch-norm", "statistics"

Means = dict[str, Tensor]
Kinds = tuple[type[nn.Module], ...]
Shift = Callable[[str, Tensor], "Tensor | None"]  # (layer, mean of its outputs) -> what they are moved by


def means_of(bundle: Bundle, images: Tensor, kinds: Kinds = LAYERS) -> Means:
    """Layer -> mean of each of its outputs over images and places, (outputs,) float64.

    Left out are layers that are called twice or never.
    """
    found: Means = {}
    calls = Counter[str]()

    def note(layer: str, mean: Tensor) -> None:
        calls[layer] += 1
        found[layer] = mean

    _run(zoo.fork(bundle).eval(), images, note, kinds)
    return {layer: mean for layer, mean in found.items() if calls[layer] == 1}


def corrected(
    bundle: Bundle, images: Tensor, wanted: Mapping[str, Tensor], behind: Mapping[str, str]
) -> tuple[Bundle, dict[str, str]]:
    """The bundle whose layers give the means that are wanted, and where each was corrected.

    The difference goes into a layer's bias, or into the mean of the batch-norm `behind` it, which subtracts
    it. Layers with neither, or of another width than is wanted, stay.
    """
    params, places = dict(bundle.params), dict[str, str]()

    def shift(layer: str, mean: Tensor) -> Tensor | None:
        if layer not in wanted or wanted[layer].shape != mean.shape:
            return None
        normal, off = behind.get(layer), wanted[layer] - mean
        if f"{layer}.bias" in params:
            places[layer], name, sign = BIAS, f"{layer}.bias", 1
        elif normal is not None and f"{normal}.running_mean" in params:
            places[layer], name, sign = NORMAL, f"{normal}.running_mean", -1
        else:
            return None
        params[name] = Dense((params[name].decode().double() + sign * off).float())
        return off

    _run(zoo.fork(bundle).eval(), images, shift)
    return bundle.become(params), places


def normal_again(bundle: Bundle, images: Tensor) -> tuple[Bundle, list[str]]:
    """The bundle with every batch-norm's mean and variance as these images give them, and their names."""
    net = zoo.fork(bundle).eval()
    known = [name for name, layer in net.named_modules() if isinstance(layer, NORMS)]
    for name in known:
        layer: Any = net.get_submodule(name)
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all that is seen
        layer.train()
    with torch.no_grad():
        net(images)
    state = net.state_dict()
    taken = [f"{name}.{part}" for name in known for part in ("running_mean", "running_var")]
    new = {name: Dense(state[name].clone()) for name in taken if name in bundle.params}
    return bundle.become({**bundle.params, **new}), known


@torch.no_grad()
def _run(net: nn.Module, images: Tensor, shift: Shift, kinds: Kinds = LAYERS) -> None:
    """Run the net, and move the outputs of each layer by what `shift` says, where it says something."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def meet(layer: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            channel = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
            others = [axis for axis in range(output.dim()) if axis != channel]
            off = shift(name, output.double().mean(others))
            if off is None:
                return None
            shape = [-1 if axis == channel else 1 for axis in range(output.dim())]
            return output + off.float().reshape(shape)

        return meet

    for name, layer in net.named_modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(hook(name))
    net(images)


def shift_of(mean: Tensor, wanted: Tensor) -> float:
    """How far means are from those that are wanted, over the norm of these.

    >>> shift_of(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0]))
    0.75
    """
    norm = float(wanted.norm())
    return float((mean - wanted).norm()) / norm if norm > 0 else 0.0
