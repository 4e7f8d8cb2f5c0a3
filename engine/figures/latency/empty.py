"""Channels that change nothing, cut out of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.net import channels
from engine.types import Bundle, SlimscopeError


def without_zero_channels(bundle: Bundle) -> Bundle | str:
    """The net without the filters and units that change nothing, or why there is none.

    A channel changes nothing where all that makes it is zero, biases and batch-norm included, or all
    that reads it. Cutting some out can leave others unread, so it goes on until nothing is left to cut.
    """
    after = bundle
    try:
        while kept := _kept(after):
            after = channels.keep(after, kept)
    except SlimscopeError as error:
        return f"{error}."
    if after is not bundle:
        return after
    return (
        "no filter or unit is zero throughout, so there is none to cut out: zeros that lie scattered leave "
        "every one in place."
    )


def _kept(bundle: Bundle) -> dict[str, list[int]]:
    """Group -> channels that stay, for the groups that lose any; one stays in any case."""
    kept = {}
    for name, group in channels.groups(bundle).items():
        made = [part for part in group.makes if not part.param.endswith(("running_mean", "running_var"))]
        alive = _used(bundle, made, group.channels) & _used(bundle, group.reads, group.channels)
        stay = [int(channel) for channel in alive.nonzero()] or [0]
        if len(stay) < group.channels:
            kept[name] = stay
    return kept


def _used(bundle: Bundle, parts: Sequence[channels.Part], count: int) -> Tensor:
    """For each of `count` channels, whether any number of these parts of it is not zero."""
    used = torch.zeros(count, dtype=torch.bool)
    for part in parts:
        values = bundle.params[part.param].decode().movedim(part.axis, 0)
        places = torch.tensor(part.at)[:, None] + torch.arange(part.block)
        used |= values.reshape(len(values), -1).any(1)[places].any(1)
    return used
