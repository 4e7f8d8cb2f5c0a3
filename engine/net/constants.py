"""Channels that say nothing: nobody reads them, or nothing enters them and what they give is constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.sets import Samples
from engine.net import channels, zoo
from engine.net.channels import Group, Part
from engine.net.surgery import CONVOLUTIONS, get_layer
from engine.tensor.formats import Dense
from engine.types import Bundle, Param, SlimscopeError

PROBES = 64  # samples that constants are read from


@dataclass(frozen=True)
class Dead:
    """Channels of a group that can go: `unread` by anybody, or `constant`, which the next bias takes over."""

    unread: frozenset[int] = frozenset()
    constant: frozenset[int] = frozenset()

    @property
    def all(self) -> frozenset[int]:
        return self.unread | self.constant


@dataclass
class _Seen:
    """Smallest and largest value of each channel, or of each column, that enters a layer."""

    low: Tensor = field(default_factory=lambda: torch.zeros(0))
    high: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, values: Tensor) -> None:
        low, high = values.amin(0), values.amax(0)
        first = not len(self.low)
        self.low = low if first else torch.minimum(self.low, low)
        self.high = high if first else torch.maximum(self.high, high)


def dead_channels(bundle: Bundle, samples: Samples) -> dict[str, Dead]:
    """Group -> its dead channels, for groups that have some. Streams of shortcuts are left as they are.

    A channel whose weights are all zero gives a constant, which is read off a few samples; it counts only
    where each layer that reads it can take it into its bias, or where it is zero. One channel always stays.
    No group where channels can't be followed, as in a recurrent net.
    """
    try:
        known = channels.groups(bundle)
    except SlimscopeError:
        return {}
    found = {name: _zeros(bundle, group) for name, group in known.items() if not group.stream}
    found = {name: dead for name, dead in found.items() if dead.all}
    seen = _inputs(bundle, samples, _readers(known, found))
    return {
        name: alive
        for name, dead in found.items()
        if (alive := _one_stays(known[name], _foldable(bundle, known[name], dead, seen))).all
    }


def without(bundle: Bundle, dead: Mapping[str, Dead], samples: Samples) -> Bundle:
    """The bundle without dead channels: what they gave is in the biases of the layers that read them."""
    if not dead:
        return bundle
    known, params = channels.groups(bundle), dict(bundle.params)
    seen = _inputs(bundle, samples, _readers(known, dead))
    for name, each in dead.items():
        for part in known[name].reads:
            _fold(params, part, sorted(each.constant), seen.get(_layer(part)))
    gone = {name: set(each.all) for name, each in dead.items()}
    return channels.keep(bundle.become(params), channels.kept_of(known, gone))


# ---------------------------------------------------------------- which


def _zeros(bundle: Bundle, group: Group) -> Dead:
    """Channels whose readers have zeros for them, and others whose own weights are zero."""
    made = [part for part in group.makes if len(bundle.params[part.param].shape) > 1]
    unread = _all_zero(bundle, group.reads, group.channels)
    return Dead(frozenset(unread), frozenset(_all_zero(bundle, made, group.channels) - unread))


def _all_zero(bundle: Bundle, parts: Any, count: int) -> set[int]:
    zero = torch.ones(count, dtype=torch.bool) if parts else torch.zeros(count, dtype=torch.bool)
    for part in parts:
        used = (bundle.params[part.param].decode() != 0).movedim(part.axis, 0).flatten(1).any(1)
        zero &= torch.stack([~used[list(part.places(channel))].any() for channel in range(count)])
    return set(zero.nonzero().flatten().tolist())


def _readers(known: Mapping[str, Group], dead: Mapping[str, Dead]) -> list[str]:
    named = [_layer(part) for name, each in dead.items() if each.constant for part in known[name].reads]
    return list(dict.fromkeys(named))


def _layer(part: Part) -> str:
    return part.param.rpartition(".")[0]


def _foldable(bundle: Bundle, group: Group, dead: Dead, seen: Mapping[str, _Seen]) -> Dead:
    net = zoo.build(bundle)
    constant = {
        channel
        for channel in dead.constant
        if all(_takes(bundle, net, part, channel, seen.get(_layer(part))) for part in group.reads)
    }
    return Dead(dead.unread, frozenset(constant))


def _takes(bundle: Bundle, net: nn.Module, part: Part, channel: int, seen: _Seen | None) -> bool:
    """Whether a layer can take a constant channel into its bias; a padded one meets zeros at its edges."""
    if seen is None or part.axis != 1:
        return False
    places = list(part.places(channel))
    low, high = seen.low[places], seen.high[places]
    if not torch.equal(low, high):
        return False
    if not bool(low.any()):
        return True
    layer, bias = get_layer(net, _layer(part)), bundle.params.get(f"{_layer(part)}.bias")
    plain = isinstance(layer, nn.Linear) or (
        isinstance(layer, CONVOLUTIONS) and layer.groups == 1 and not any(layer.padding)
    )
    return plain and isinstance(bias, Dense)


def _one_stays(group: Group, dead: Dead) -> Dead:
    if len(dead.all) < group.channels:
        return dead
    last = max(dead.all)
    return Dead(dead.unread - {last}, dead.constant - {last})


# ---------------------------------------------------------------- what they give


def _inputs(bundle: Bundle, samples: Samples, layers: list[str]) -> dict[str, _Seen]:
    """What enters each layer for a few samples: (channels,) or (columns,) lows and highs."""
    net, seen = zoo.fork(bundle).eval(), {name: _Seen() for name in layers}

    def tap(name: str) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            channels_last = args[0].movedim(1, -1) if isinstance(module, CONVOLUTIONS) else args[0]
            seen[name].add(channels_last.flatten(0, -2))

        return look

    for name in layers:
        get_layer(net, name).register_forward_pre_hook(tap(name))
    if layers:
        with torch.no_grad():
            net(samples.stratified(PROBES).inputs())
    return {name: each for name, each in seen.items() if len(each.low)}


def _fold(params: dict[str, Param], part: Part, constant: list[int], seen: _Seen | None) -> None:
    """Add to a layer's bias what its constant channels give it."""
    places = [place for channel in constant for place in part.places(channel)]
    if seen is None or not places or not bool(seen.low[places].any()):
        return
    weight, bias = params[part.param].decode(), f"{_layer(part)}.bias"
    summed = weight.double().flatten(2).sum(2) if weight.dim() > 2 else weight.double()
    added = summed[:, places] @ seen.low[places].double()
    params[bias] = Dense((params[bias].decode().double() + added).float())
