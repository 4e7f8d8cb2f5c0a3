"""What groups of channels are made of, and which places of which tensors go with some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.types import SlimscopeError


@dataclass(frozen=True)
class Part:
    """Where the channels of a group lie in one tensor: channel c at `at[c]` and on, along `axis`.

    Each takes `block` consecutive places: 1, or height * width for a linear layer that reads
    a flattened image.
    """

    param: str
    axis: int
    block: int
    at: tuple[int, ...]

    def places(self, channel: int) -> range:
        """The indices along `axis` that belong to one channel."""
        return range(self.at[channel], self.at[channel] + self.block)


@dataclass(frozen=True)
class Pad:
    """Channels of a group that a block's shortcut fills with zeros, before and after its input's own."""

    block: str
    before: frozenset[int]
    after: frozenset[int]


@dataclass(frozen=True)
class Group:
    """Channels of which each can be removed, with all that must go along.

    `name` is the label of the first layer that makes them, `layers` has the labels of all that do.
    `stream` is true where values of several layers are added up in these channels.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    makes: tuple[Part, ...]
    reads: tuple[Part, ...]
    pads: tuple[Pad, ...] = ()
    stream: bool = False


def known_group(groups: Mapping[str, Group], name: str) -> Group:
    """Raises SlimscopeError where there is no such group."""
    if name not in groups:
        raise SlimscopeError(f"group {name!r} has no channels to remove; there are {', '.join(groups)}")
    return groups[name]


def check_channels(group: Group, channels: Sequence[int]) -> None:
    """Raises SlimscopeError for a channel that is not there."""
    for channel in channels:
        if not 0 <= channel < group.channels:
            raise SlimscopeError(
                f"channel {channel} is not in {group.name}: allowed is 0 to {group.channels - 1}"
            )


def _gone(groups: Mapping[str, Group], kept: Mapping[str, Sequence[int]]) -> dict[str, set[int]]:
    """Group name -> channels that do not stay. Checks `kept`."""
    gone = {}
    for name, channels in kept.items():
        group = known_group(groups, name)
        check_channels(group, channels)
        if not channels:
            raise SlimscopeError(f"no channel of {name} would stay: allowed are 1 to {group.channels}")
        gone[name] = set(range(group.channels)) - set(channels)
    return gone


def removed(groups: Mapping[str, Group], kept: Mapping[str, Sequence[int]]) -> dict[str, dict[int, set[int]]]:
    """Parameter -> axis -> places that go: layers can hold channels of several groups."""
    removed: dict[str, dict[int, set[int]]] = {}
    for name, channels in _gone(groups, kept).items():
        for part in (*groups[name].makes, *groups[name].reads) if channels else ():
            places = removed.setdefault(part.param, {}).setdefault(part.axis, set())
            places.update(place for channel in channels for place in part.places(channel))
    return removed


def _pads_left(
    pads: Mapping[str, tuple[int, int]], groups: Mapping[str, Group], kept: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """Block -> numbers of zero channels before and after, for each block with a padded shortcut."""
    left = {block: list(zeros) for block, zeros in pads.items()}
    for name, channels in _gone(groups, kept).items():
        for pad in groups[name].pads:
            left[pad.block][0] -= len(pad.before & channels)
            left[pad.block][1] -= len(pad.after & channels)
    return left


def narrowing(
    groups: Mapping[str, Group],
    kept: Mapping[str, Sequence[int]],
    pads: Mapping[str, tuple[int, int]],
    shapes: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """The settings of the edit `narrow` that leaves these channels of tensors of these shapes."""
    outputs: dict[str, int] = {}
    inputs: dict[str, int] = {}
    for name, axes in removed(groups, kept).items():
        for axis, places in axes.items():
            left = shapes[name][axis] - len(places)
            (inputs if axis else outputs)[name.rpartition(".")[0]] = left
    return {"outputs": outputs, "inputs": inputs, "pads": _pads_left(pads, groups, kept)}
