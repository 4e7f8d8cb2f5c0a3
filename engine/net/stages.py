"""Stages of a convolutional net: the last feature maps of each size, and how to read them while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.data import user_errors
from engine.memory import remembered
from engine.net import sources, zoo
from engine.net.input_quantizer import InputQuantizer, is_of_quantizer
from engine.net.surgery import get_layer
from engine.types import Arch, SlimscopeError

Size = tuple[int, int]  # height and width of a feature map


class Stage(NamedTuple):
    """The module that ends a stage, and how many channels its feature maps have."""

    name: str
    channels: int


def stages(arch: Arch) -> dict[Size, Stage]:
    """Size of feature maps -> the last module that gives maps (n, channels, height, width) of it, in order.

    Maps of a single place are left out. Empty for nets without feature maps. Raises SlimscopeError for
    weights without a known architecture.

    >>> {size: stage.name for size, stage in stages(Arch("resnet-20")).items()}
    {(32, 32): 'layer1', (16, 16): 'layer2', (8, 8): 'layer3'}
    """
    return dict(_followed(arch.key))


@remembered
def _followed(key: str) -> Mapping[Size, Stage]:
    arch = Arch.from_key(key)
    net, found = zoo.skeleton(arch).eval(), dict[Size, Stage]()

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output[0, 0].numel() > 1:
                size = output.shape[2], output.shape[3]
                found.pop(size, None)
                found[size] = Stage(name, output.shape[1])

        return hook

    for name, module in net.named_modules():
        if name and not isinstance(module, InputQuantizer) and not is_of_quantizer(f"{name}."):
            module.register_forward_hook(note(name))
    with torch.no_grad(), user_errors.own_errors(f"the feature maps of {arch.title} can't be followed"):
        net(sources.inputs(arch).to("meta"))
    return found


def matching(teacher: Arch, student: Arch) -> dict[Size, tuple[Stage, Stage]]:
    """Size -> what ends the stages of this size in teacher and student, in the student's order.

    Raises SlimscopeError where there are no maps of one size in both.

    >>> [tuple(each) for each in matching(Arch("lenet-5"), Arch("lenet-5-small"))[8, 8]]
    [('conv2', 50), ('conv2', 8)]
    """
    known, own = stages(teacher), stages(student)
    for arch, maps in ((teacher, known), (student, own)):
        if not maps:
            raise SlimscopeError(
                f"{zoo.title(arch)} has no feature maps (channels, height, width): "
                "a convolutional model is needed"
            )
    both = {size: (known[size], stage) for size, stage in own.items() if size in known}
    if not both:
        sizes = [", ".join(f"{h} x {w}" for h, w in maps) for maps in (known, own)]
        raise SlimscopeError(
            f"{zoo.title(teacher)} has feature maps of {sizes[0]}, {zoo.title(student)} of {sizes[1]}: "
            "they can be compared only where some are equal in size"
        )
    return both


def listen(net: nn.Module, names: Iterable[str]) -> Mapping[str, Tensor]:
    """What these modules gave when the net ran last. `net` is a fork: it has hooks from now on."""
    heard: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: heard.__setitem__(name, output)

    for name in names:
        get_layer(net, name).register_forward_hook(keep(name))
    return heard


def reader(net: nn.Module, name: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What the module `name` gives for inputs, and the net's own answers; without gradients, as `listen`."""
    heard = listen(net, [name])

    @torch.no_grad()
    def read(inputs: Tensor) -> tuple[Tensor, Tensor]:
        answers = net(inputs)
        return heard[name], answers

    return read
