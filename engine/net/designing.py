"""Designs of a model: fewer channels and layers, smaller images and kernels, cheaper convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.memory import remembered
from engine.net import channels, compact, sources, zoo
from engine.net.input_quantizer import VERBS
from engine.net.narrower import spaced
from engine.net.replacing import fitting
from engine.tensor.compact import Design
from engine.types import Arch, Bundle, SlimscopeError

PARTS = ("first", "middle", "last")  # thirds of a model's groups of channels, in its own order
EVEN = 8  # channels: counts from this on are multiples of it, which groups and processors divide
STANDARD = Design("standard")
DEPTHS = (1.0, 0.67, 0.33)
RESOLUTIONS = (1.0, 0.75, 0.5)
SMALLER = 2  # a smaller kernel has so many points less along each side


@dataclass(frozen=True)
class Blueprint:
    """A design: the share of channels that each third has, and which convolutions of which third it has.

    `convolutions` take the place of those that can be replaced, but for the first `since` thirds of these;
    with `smaller_kernels` these have smaller kernels, too. `depth` is the share of the layers and blocks that
    stay, of those that can be skipped, `resolution` that of an image's height and width.
    """

    widths: tuple[float, float, float]
    convolutions: Design = STANDARD
    since: int = 0
    depth: float = 1.0
    resolution: float = 1.0
    smaller_kernels: bool = False


@dataclass(frozen=True)
class Choices:
    """What can be chosen for a model beside widths and convolutions."""

    depths: tuple[float, ...]
    resolutions: tuple[float, ...]
    kernels: tuple[bool, ...]


def possible(bundle: Bundle) -> None:
    """Raise SlimscopeError where no channel of a model can go."""
    if not channels.groups(bundle):
        raise SlimscopeError(f"{zoo.title(bundle.arch)} has no channels that can go: it has one design alone")


def choices(bundle: Bundle) -> Choices:
    """The depths, resolutions and kernels that a model can have.

    >>> choices(zoo.load("resnet-8"))
    Choices(depths=(1.0, 0.67, 0.33), resolutions=(1.0, 0.75, 0.5), kernels=(False, True))
    >>> choices(zoo.load("lenet-5"))  # its first fully connected layer reads maps of one size
    Choices(depths=(1.0,), resolutions=(1.0,), kernels=(False, True))
    """
    arch = _without_rounding(bundle.arch)
    scaled = (share for share in RESOLUTIONS[1:] if _runs(arch.edit("shrink_input", share=share)))
    return Choices(
        DEPTHS if len(skipped(arch)) > 1 else (1.0,),
        (1.0, *scaled),
        (False, True) if list(_smaller(arch, convolutions(arch))) else (False,),
    )


def drawn(bundle: Bundle, blueprint: Blueprint) -> Arch:
    """The architecture of a design of this model; its inputs are not rounded.

    Raises SlimscopeError where no channels can go, where no convolution fits those that are wanted, and where
    the model can't be run as it is wanted.

    >>> drawn(zoo.load("lenet-5"), Blueprint((0.5, 0.5, 0.1))).edits[0][1]["outputs"]
    {'conv1': 8, 'conv2': 24, 'fc1': 48}
    """
    possible(bundle)
    shorter = _shorter(bundle, blueprint.depth)
    known = channels.groups(shorter)
    kept = {
        name: spaced(
            group.channels, _share(group.channels, blueprint.widths[number * len(PARTS) // len(known)])
        )
        for number, (name, group) in enumerate(known.items())
    }
    narrow, wanted = channels.keep(shorter, kept), blueprint.convolutions
    arch = _without_rounding(narrow.arch)
    if blueprint.smaller_kernels:
        for layer, size in _smaller(arch, _since(convolutions(arch), blueprint.since)):
            arch = arch.edit("shrink_kernel", layer=layer, size=size)
    if wanted != STANDARD:
        labels, _ = fitting(narrow, wanted)
        form = {"design": wanted.name, "groups": wanted.groups, "expansion": wanted.expansion}
        for label in _since(labels, blueprint.since):
            arch = arch.edit("replace_conv", layer=label, **form)
    if blueprint.resolution < 1:
        arch = arch.edit("shrink_input", share=blueprint.resolution)
    if not _runs(arch):
        raise SlimscopeError(f"{zoo.title(bundle.arch)} can't be run in this design")
    return arch


def _since(labels: Sequence[str], since: int) -> Sequence[str]:
    """All but the first thirds."""
    return labels[since * len(labels) // len(PARTS) :]


def _without_rounding(arch: Arch) -> Arch:
    return Arch(arch.name, tuple(edit for edit in arch.edits if edit[0] not in VERBS), arch.config)


def _runs(arch: Arch) -> bool:
    """Whether the net gives answers of the usual shape, tried without memory for its numbers."""
    try:
        answers = zoo.blank(arch)(sources.inputs(arch))
    except Exception:  # whatever a stranger's code may raise
        return False
    usual = zoo.blank(arch.plain)(sources.inputs(arch))
    return bool(answers.shape == usual.shape)


# ---------------------------------------------------------------- fewer layers


def _shorter(bundle: Bundle, depth: float) -> Bundle:
    """The model with this share of what can be skipped, evenly spaced."""
    able = skipped(bundle.arch)
    stay = [able[number] for number in spaced(len(able), depth)] if able else []
    arch, gone = bundle.arch, [layer for layer in able if layer not in stay]
    for layer in gone:
        arch = arch.edit("skip", layer=layer)
    before = tuple(f"{layer}." for layer in gone)
    return bundle.become({n: param for n, param in bundle.params.items() if not n.startswith(before)}, arch)


def skipped(arch: Arch) -> list[str]:
    """Layers with weights, or blocks of them, that give what they read another value but no other shape.

    Each can be skipped; of blocks in a block the larger counts, of a row of them (`nn.Sequential`) each one.

    >>> skipped(zoo.load("resnet-8").arch)
    ['layer1.0', 'layer2.0.conv2', 'layer3.0.conv2']
    """
    return list(_skipped(arch.key))


@remembered
def _skipped(key: str) -> tuple[str, ...]:
    arch = Arch.from_key(key)
    net, shapes = zoo.blank(arch), dict[str, list[bool]]()

    def note(name: str, args: tuple[object, ...], given: object) -> None:
        read = args[0] if args else None
        same = isinstance(read, Tensor) and isinstance(given, Tensor) and read.shape == given.shape
        shapes.setdefault(name, []).append(same)

    for name, module in net.named_modules():
        module.register_forward_hook(lambda module, args, given, name=name: note(name, args, given))
    net(sources.inputs(arch))
    tied = (*arch.ties, *arch.ties.values())

    def found(name: str, module: nn.Module) -> Iterator[str]:
        row = isinstance(module, nn.Sequential) or not name
        has_weights = any(parameter.dim() > 1 for parameter in module.parameters())
        is_free = not any(each.startswith(f"{name}.") for each in tied)
        if not row and shapes.get(name) == [True] and has_weights and is_free:
            yield name
            return
        for own, child in module.named_children():
            yield from found(f"{name}.{own}" if name else own, child)

    return tuple(found("", net))


# ---------------------------------------------------------------- smaller kernels


def convolutions(arch: Arch) -> list[str]:
    """The 2-D convolutions of a net, in its own order."""
    return [name for name, module in zoo.skeleton(arch).named_modules() if isinstance(module, nn.Conv2d)]


def _smaller(arch: Arch, labels: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Those of the convolutions that can have a smaller kernel, and its size."""
    net = zoo.skeleton(arch)
    for label in labels:
        layer = net.get_submodule(label)
        assert isinstance(layer, nn.Conv2d)
        size = min(layer.kernel_size) - SMALLER
        with torch.device("meta"):
            try:
                compact.with_kernel(layer, size)
            except SlimscopeError:
                continue
        yield label, size


def _share(total: int, share: float) -> float:
    """The share that leaves a multiple of EVEN channels, where it leaves so many at all.

    >>> _share(64, 0.3), _share(10, 0.5), _share(20, 1.0)
    (0.25, 0.5, 1.0)
    """
    count = share * total
    return min(1.0, EVEN * round(count / EVEN) / total) if EVEN <= count < total else share
