"""Layers changed one after another, each to give what it gave before, from what the changed ones give it.

One run of the model as it was notes each layer's outputs at some places; in one run more, each layer is
changed when its inputs come by, and what follows sees the change.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import sources, zoo
from engine.net.walk import Goal, drawn_places, rows_at, words_of
from engine.types import Arch, Bundle, weight_layers

CHECKED = 5  # one sample of so many is not fitted on: errors are measured on it
PLACES = 10  # of a sample at most that a layer is fitted at
WIDEST = 8192  # inputs of a layer that is fitted by its Hessian, which has so many rows and columns
POINTS = 10  # places of a sample at most that norms are taken at
Change = Callable[[str, Tensor, Tensor], Tensor]  # (layer, rows (points, inputs), goal) -> its new weight


def drawn(samples: Samples, count: int, seed: int) -> Tensor:
    """Inputs that layers are fitted on: as many of each class, in an order that the seed fixes."""
    inputs = samples.stratified(count).inputs()
    return inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))]


def is_matched(layer: nn.Module) -> bool:
    """Whether a layer's outputs are a matrix times rows of its inputs."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


@torch.no_grad()
def goals_of(
    net: nn.Module, names: Mapping[str, str], images: Tensor, points: int, seed: int
) -> dict[str, Goal]:
    """Label -> what the layer gives at up to `points` places of each image, without its bias.

    Places of a text that only fill it up are no such places: what a layer gives there, nothing reads.
    `names` maps labels to weights. Left out are layers that can't be matched, and those that are called
    twice or never.
    """
    rng, words = torch.Generator().manual_seed(seed), words_of(images)
    found: dict[str, Goal] = {}
    calls = Counter[str]()

    def note(label: str, layer: nn.Module, inputs: Tensor) -> None:
        calls[label] += 1
        if len(inputs) == len(images):
            places = drawn_places(layer, inputs, points, rng, words)
            found[label] = Goal(places, rows_at(layer, inputs, places) @ layer.weight.flatten(1).T)  # type: ignore[operator]

    _run(net, names, images, note)
    return {label: goal for label, goal in found.items() if calls[label] == 1}


@torch.no_grad()
def change(
    net: nn.Module, names: Mapping[str, str], images: Tensor, goals: Mapping[str, Goal], new: Change
) -> None:
    """Give each layer that has a goal the weight (outputs, inputs * kernel) that `new` makes of its rows."""

    def act(label: str, layer: nn.Module, inputs: Tensor) -> None:
        if label in goals:
            rows = rows_at(layer, inputs, goals[label].places)
            weight: Any = layer.weight
            weight.copy_(new(label, rows, goals[label].outputs).reshape(weight.shape))

    _run(net, names, images, act)


def output_error(rows: Tensor, goal: Tensor, weight: Tensor) -> float:
    """How far a weight (outputs, inputs * kernel) is from the goal (points, outputs), over its norm.

    NaN where there are no points to measure it on.

    >>> output_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0]]), torch.tensor([[1.0, 1.0]]))
    0.25
    """
    if not len(rows):
        return math.nan
    norm = float(goal.norm())
    return float((rows @ weight.T - goal).norm()) / norm if norm > 0 else 0.0


@remembered
def matched(key: str) -> frozenset[str]:
    """Labels of the layers, in the architecture of this key, whose inputs come by when it runs."""
    arch, seen = Arch.from_key(key), set[str]()
    net = zoo.blank(arch).eval()
    names = {name.removesuffix(".weight"): name for name, p in net.named_parameters() if p.dim() >= 2}
    with torch.no_grad():
        _run(net, names, sources.inputs(arch), lambda label, *_: seen.add(label))
    return frozenset(seen)


@remembered
def norms_of(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, Tensor]:
    """Layer -> the L2 norm of each of its inputs (inputs * kernel,), over up to `POINTS` places of a sample.

    `count` of the samples are run, each class in its share. Layers are those of `matched`.
    """
    images, rng = samples.stratified(count, seed).inputs(), torch.Generator().manual_seed(seed)
    squares = dict[str, Tensor]()

    def add(label: str, layer: nn.Module, inputs: Tensor) -> None:
        places = drawn_places(layer, inputs, POINTS, rng, words_of(images))
        more = rows_at(layer, inputs, places).double().square().sum(0)
        squares[label] = squares.get(label, 0.0) + more

    with torch.no_grad():
        _run(zoo.fork(bundle).eval(), weight_layers(bundle), images, add)
    return MappingProxyType({label: each.sqrt().float() for label, each in squares.items()})


@remembered
def entering(
    bundle: Bundle, samples: Samples, label: str, count: int, points: int, seed: int
) -> Tensor | None:
    """What enters one layer at up to `points` places of each of `count` samples: (points, inputs * kernel).

    None where its outputs are no matrix times these, and where it is not called exactly once.
    """
    name, images = weight_layers(bundle)[label], samples.stratified(count).inputs()
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]
    rng, found = torch.Generator().manual_seed(seed), list[Tensor]()

    def keep(_: str, layer: nn.Module, inputs: Tensor) -> None:
        found.append(rows_at(layer, inputs, drawn_places(layer, inputs, points, rng, words_of(images))))

    with torch.no_grad():
        _run(zoo.fork(bundle).eval(), {label: name}, images, keep)
    return found[0] if len(found) == 1 else None


def _run(
    net: nn.Module, names: Mapping[str, str], images: Tensor, act: Callable[[str, nn.Module, Tensor], None]
) -> None:
    """Run the net; `act` is called with each layer, in its turn, and with what is about to enter it."""
    busy, handles = set[str](), []

    def hook(label: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def meet(layer: nn.Module, args: tuple[Any, ...]) -> None:
            if label not in busy:  # the layer may be tried while it is looked at
                busy.add(label)
                act(label, layer, args[0])
                busy.discard(label)

        return meet

    for label, name in names.items():
        layer, _, own = name.rpartition(".")
        module = net.get_submodule(layer) if own == "weight" else None
        if module is not None and is_matched(module):
            handles.append(module.register_forward_pre_hook(hook(label)))
    net(images)
    for handle in handles:
        handle.remove()
