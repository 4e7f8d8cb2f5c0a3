"""Training on formats: weights are rounded in each forward pass; scales and tables learn beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from engine.net.train.kit import Part
from engine.types import Param

PART = "formats"
NO_TIES: Mapping[str, str] = {}


def by_format(param: Param) -> nn.Module:
    """How the format itself is trained."""
    module: nn.Module = param.straight_through()
    return module


def train_on(
    net: nn.Module,
    params: Mapping[str, Param],
    rate: float = 1.0,
    ties: Mapping[str, str] = NO_TIES,
    way: Callable[[Any], nn.Module] = by_format,
) -> Part:
    """Let these weights of a fork go through their formats; the part that holds what learns beside them.

    `params` maps names in the net's state_dict to how they are stored; step sizes and entries learn at
    `rate` times the plan's rate, without weight decay. `ties` maps other names of these weights to theirs;
    `way` makes the module that a weight goes through, of its format. Ask `zero_masks` of the net behind
    this, and `stored` behind the training. Raises FormatError for a format that cannot be trained on.

    >>> from engine.tensor.formats import AffineGrid
    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> layer.weight.data = torch.tensor([[0.9, -0.3]])
    >>> codes, zero = torch.tensor([[2, -1]], dtype=torch.int32), torch.tensor([0], dtype=torch.int32)
    >>> part = train_on(layer, {"weight": AffineGrid(codes, torch.tensor([0.5]), zero, 3)})
    >>> layer.weight.tolist(), [p.tolist() for p in part.parameters()]
    ([[1.0, -0.5]], [[0.5]])
    """
    modules = nn.ModuleDict({name.replace(".", "/"): way(param) for name, param in params.items()})
    tied = {other: name for other, name in ties.items() if name in params}
    for name, stored_as in {**{name: name for name in params}, **tied}.items():
        layer, _, weight = name.rpartition(".")
        through = modules[stored_as.replace(".", "/")]
        parametrize.register_parametrization(net.get_submodule(layer), weight, through, unsafe=True)
    return Part(PART, modules, rate, 0.0)


def stored(net: nn.Module, part: Part) -> dict[str, Param]:
    """The weights that a part of `train_on` was made for, in their formats, with what was learned."""
    found = {}
    for key, through in part.module.named_children():
        layer, _, weight = key.replace("/", ".").rpartition(".")
        latent = net.get_submodule(layer).get_parameter(f"parametrizations.{weight}.original")
        found[key.replace("/", ".")] = through.encode(latent)  # type: ignore[operator]
    return found
