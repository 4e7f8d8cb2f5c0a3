"""Masks of lottery tickets: a round's pruning, a random mask, and what is left of each input."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from engine.tensor import masks


def pruned(
    trained: Mapping[str, Tensor], mask: Mapping[str, Tensor], rate: float, output: str
) -> dict[str, Tensor]:
    """The mask without the smallest `rate` of each layer's surviving weights, half as many in `output`.

    Keys are parameter names, masks are bool. The number removed is rounded to whole weights.

    >>> weights = {"fc": torch.tensor([3.0, -1.0, 0.0, 2.0, 4.0])}
    >>> pruned(weights, {"fc": weights["fc"] != 0}, 0.5, "fc")["fc"].tolist()
    [True, False, False, True, True]
    """
    left = {}
    for name, kept in mask.items():
        survivors = int(kept.count_nonzero())
        going = round((rate / 2 if name == output else rate) * survivors)
        zeros = kept.numel() - survivors + going
        left[name] = masks.by_sparsity(trained[name] * kept, zeros / kept.numel())
    return left


def per_input(mask: Tensor) -> pd.DataFrame:
    """How many of the first layer's weights stay at each input: columns input, kept, of.

    The mask is (outputs, inputs) or (outputs, inputs, height, width): each place of a kernel is an input.

    >>> per_input(torch.tensor([[True, False], [True, True]])).to_dict("list")
    {'input': [0, 1], 'kept': [2, 1], 'of': [2, 2]}
    """
    kept = mask.flatten(1).sum(0)
    return pd.DataFrame({"input": range(len(kept)), "kept": kept.tolist(), "of": len(mask)})


def shuffled(mask: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A random mask with as many weights in each layer, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view(kept.shape)
        for name, kept in mask.items()
    }
