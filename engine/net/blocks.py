"""Blocks of a model, and what enters each of them.

A block is a member of a list of modules (an encoder of a transformer, a residual block), or else a single
layer. What enters it is worked out anew from the model's inputs, so that only one block's is ever held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.net.channels.trace import tensors
from engine.net.surgery import get_layer
from engine.net.taps import module_of

BATCH = 128  # samples that pass a block at once


@dataclass(frozen=True, eq=False)
class Entering:
    """What a block is called with for some samples: tensors of one row for each, and all else as it is."""

    samples: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def give(self, block: nn.Module, rows: Tensor) -> Tensor:
        """What the block makes of these samples: the first tensor that it returns."""

        def own(value: Any) -> Any:
            return value[rows] if isinstance(value, Tensor) else value

        named = {name: own(value) for name, value in self.kwargs.items()}
        return next(tensors(block(*map(own, self.args), **named)))

    @torch.no_grad()
    def outputs(self, block: nn.Module, rows: Tensor | None = None) -> Tensor:
        """What the block makes of these samples, or of all."""
        rows = torch.arange(self.samples) if rows is None else rows
        return torch.cat([self.give(block, some) for some in torch.split(rows, BATCH)])


class _Reached(Exception):
    """The block has been called: the rest of the model need not run."""


def blocks(net: nn.Module, weights: Iterable[str]) -> dict[str, list[str]]:
    """Name of each block -> those of `weights` inside of it, in the order in which modules are registered.

    A matrix that a module holds beside its layers is in none.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)))
    >>> blocks(net, ["0.weight", "1.0.weight", "1.2.weight"])
    {'0': ['0.weight'], '1': ['1.0.weight', '1.2.weight']}
    """
    lists = [
        name for name, module in net.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)
    ]
    found: dict[str, list[str]] = {}
    for weight in weights:
        layer = module_of(weight)
        # The outermost list that the layer is in; its member is the block.
        around = next((name for name in lists if f"{layer}.".startswith(f"{name}." if name else "")), None)
        block = layer
        if around is not None:
            prefix = f"{around}." if around else ""
            block = prefix + layer.removeprefix(prefix).split(".")[0]
        found.setdefault(block, []).append(weight)
    return {block: names for block, names in found.items() if not _holds_others(block, found)}


def _holds_others(block: str, found: Collection[str]) -> bool:
    """Whether other blocks are inside of this one: it has a matrix of its own beside its layers."""
    prefix = f"{block}." if block else ""
    return any(other != block and other.startswith(prefix) for other in found)


@torch.no_grad()
def called_once(net: nn.Module, names: Collection[str], inputs: Tensor) -> list[str]:
    """Those blocks that are called once, in this order, with floats and a row for each sample.

    They must give such a row back as well.
    """
    calls, fits = Counter[str](), dict[str, bool]()

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = next(tensors(output), None)
            entering = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            nested = len(list(tensors([args, kwargs]))) > len(entering)
            floats = bool(entering) and entering[0].is_floating_point()
            rows = all(value.dim() > 0 and len(value) == len(inputs) for value in entering)
            calls[name] += 1
            fits[name] = floats and rows and not nested and given is not None and len(given) == len(inputs)

        return hook

    hooks = [get_layer(net, name).register_forward_hook(note(name), with_kwargs=True) for name in names]
    net(inputs)
    for hook in hooks:
        hook.remove()
    return [name for name, good in fits.items() if good and calls[name] == 1]


@torch.no_grad()
def entering(net: nn.Module, name: str, inputs: Tensor) -> Entering:
    """What enters the block when the model sees these inputs; what is behind the block does not run."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))
        raise _Reached

    # In front of a quantizer of what enters: the block rounds it itself.
    hook = get_layer(net, name).register_forward_pre_hook(stop, prepend=True, with_kwargs=True)
    for batch in torch.split(inputs, BATCH):
        try:
            net(batch)
        except _Reached:
            continue
    hook.remove()

    def joined(values: list[Any]) -> Any:
        return torch.cat(values) if isinstance(values[0], Tensor) else values[0]

    args = tuple(joined(list(each)) for each in zip(*(one[0] for one in seen), strict=True))
    kwargs = {key: joined([one[1][key] for one in seen]) for key in seen[0][1]}
    return Entering(len(inputs), args, kwargs)
