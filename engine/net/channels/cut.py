"""Channels taken out: with zeros in their places, or for good, so that the net is narrower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engine.net.channels.groups import groups, pads_of
from engine.net.channels.parts import Group, narrowing, removed
from engine.tensor.formats import Dense
from engine.types import Bundle


def masked(
    bundle: Bundle, kept: Mapping[str, Sequence[int]], known: Mapping[str, Group] | None = None
) -> Bundle:
    """The same architecture with exact zeros wherever a removed channel is made or read.

    `kept` maps names of groups to the channels that stay; groups without an entry stay whole. `known` are
    the groups where they are not those of `groups`.
    Biases and batch-norm are zeroed too: else a constant survives. A removed channel's running
    mean and variance become 0, which is what batch-norm sees of it from now on.
    Grids keep their scales, codebooks their codes.
    """
    params = dict(bundle.params)
    for name, axes in removed(groups(bundle) if known is None else known, kept).items():
        stays = torch.ones(params[name].shape, dtype=torch.bool)
        for axis, places in axes.items():
            stays.index_fill_(axis, torch.tensor(sorted(places)), False)
        params[name] = params[name].masked(stays)
    return bundle.become(params)


def keep(
    bundle: Bundle, kept: Mapping[str, Sequence[int]], known: Mapping[str, Group] | None = None
) -> Bundle:
    """The physically smaller net: it answers as `masked` does, without the zeros.

    `kept` maps names of groups to the channels that stay, in any order; groups without an entry
    stay whole. `known` are groups that no shortcut pads, where they are not those of `groups`.
    Codes and scales are cut with their channels; only where a cut runs through the runs of weights
    that share a scale does a grid become 32-bit floats (`turned_dense`).
    Raises SlimscopeError for a group or channel that is not there, or where none would stay.
    """
    pads = pads_of(bundle) if known is None else {}
    known = groups(bundle) if known is None else known
    gone = removed(known, kept)
    if not gone:
        return bundle
    params = dict(bundle.params)
    for name, axes in gone.items():
        for axis, places in axes.items():
            stays = torch.tensor([i for i in range(params[name].shape[axis]) if i not in places])
            params[name] = params[name].take(axis, stays)
    shapes = {name: param.shape for name, param in bundle.params.items()}
    edit = narrowing(known, kept, pads, shapes)
    return bundle.become(params, bundle.arch.edit("narrow", **edit))


def turned_dense(before: Bundle, after: Bundle) -> tuple[str, ...]:
    """Names of parameters that were codes and are 32-bit floats now."""
    return tuple(
        name
        for name, param in before.params.items()
        if not isinstance(param, Dense) and isinstance(after.params.get(name), Dense)
    )


def smallest(
    scores: Mapping[str, Tensor], share: float, allocation: str, own: Mapping[str, float]
) -> dict[str, set[int]]:
    """Group -> channels of lowest score, the share of all that go.

    `scores` (channels,) of each group; `allocation` is `layer` (each loses the share) or `global` (one
    ranking of all); groups in `own` have a share of their own and stay out of the ranking. The best of each
    group stays; of equals the first goes first.

    >>> smallest({"a": torch.tensor([1.0, 2.0, 3.0])}, 0.34, "layer", {})
    {'a': {0}}
    """
    apart = {name: own[name] for name in scores if name in own}
    rest = [name for name in scores if name not in apart]
    if allocation == "layer":
        apart |= dict.fromkeys(rest, share)
        rest = []
    gone: dict[str, set[int]] = {name: set() for name in rest}
    for name, part in apart.items():
        order = torch.argsort(scores[name], stable=True).tolist()
        gone[name] = set(order[: min(round(part * len(order)), len(order) - 1)])
    ranked = []
    for name in rest:
        order = torch.argsort(scores[name], stable=True).tolist()
        ranked += [(float(scores[name][channel]), name, channel) for channel in order[:-1]]
    ranked.sort(key=lambda entry: entry[0])
    for _, name, channel in ranked[: round(share * sum(len(scores[name]) for name in rest))]:
        gone[name].add(channel)
    return gone


def kept_of(groups: Mapping[str, Group], gone: Mapping[str, set[int]]) -> dict[str, list[int]]:
    """Group -> channels that stay, for those that lose some: what `keep` and `masked` want."""
    return {name: [c for c in range(groups[name].channels) if c not in lost] for name, lost in gone.items()}
