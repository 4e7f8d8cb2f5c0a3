"""Whether two bundles are the same, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.file.packfile.head import description
from engine.types import Bundle, Param


def difference(one: Bundle, other: Bundle) -> str | None:
    """The first thing in which two bundles differ, or None: architecture, recipe, every tensor's bits.

    >>> from engine.tensor.formats import Dense
    >>> from engine.types import Arch
    >>> one, other = (Bundle(Arch("bare"), {"w": Dense(torch.tensor([zero]))}) for zero in (0.0, -0.0))
    >>> difference(one, one), difference(one, other)
    (None, 'values of w')
    """
    if one.arch.data != other.arch.data:
        return "the architecture"
    if one.lineage != other.lineage:
        return "the recipe"
    if list(one.params) != list(other.params):
        return "the names of the tensors"
    for name, param in one.params.items():
        if description(param) != description(other.params[name]):
            return f"kind or shape of {name}"
        if lost := different_part(name, param, other.params[name]):
            return lost
    return None


def different_part(name: str, one: Param, other: Param) -> str | None:
    """The first part in which two parameters of one description differ."""
    for (part, mine), theirs in zip(one.tensors().items(), other.tensors().values(), strict=True):
        if not torch.equal(_bits(mine), _bits(theirs)):
            return f"{part} of {name}"
    return None


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(torch.int32)  # compares -0.0 and 0.0 as different
