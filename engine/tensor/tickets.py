"""Masks of lottery tickets: of a round, by chance, what they leave of each input, and what two share."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from engine.tensor import masks
from engine.types import FormatError


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


# ---------------------------------------------------------------- all rounds in one tensor


def gone_in(rounds: Sequence[Tensor]) -> Tensor:
    """The round that took each weight, uint8: masks of the rounds 0, 1, 2 ... , each within the one before.

    0 is what round 0 lacked already; one more than the last round, what is left.

    >>> start, first = torch.tensor([True, True, True, False]), torch.tensor([True, False, True, False])
    >>> gone_in([start, first]).tolist()
    [2, 1, 2, 0]
    """
    return torch.stack(list(rounds)).sum(0).to(torch.uint8)


def mask_of(gone: Tensor, number: int) -> Tensor:
    """The mask of a round, from `gone_in`.

    >>> mask_of(torch.tensor([2, 1, 2, 0]), 1).tolist()
    [True, False, True, False]
    """
    return gone > number


def packed(gone: Tensor) -> dict[str, str]:
    """A uint8 tensor as text: `shape`, and `gone`, its bytes compressed, in base64."""
    text = base64.b64encode(zlib.compress(gone.contiguous().numpy().tobytes(), 9)).decode()
    return {"shape": " x ".join(map(str, gone.shape)), "gone": text}


def unpacked(row: Mapping[str, Any]) -> Tensor:
    """The tensor that `packed` was made from. Raises FormatError for what it never gives."""
    try:
        shape = [int(side) for side in str(row["shape"]).split(" x ")]
        size = math.prod(shape)
        raw = zlib.decompressobj().decompress(base64.b64decode(str(row["gone"]), validate=True), size + 1)
        return torch.from_numpy(np.frombuffer(raw, np.uint8).copy()).reshape(shape)
    except (ValueError, KeyError, RuntimeError, zlib.error) as error:
        raise FormatError(f"masks of rounds are bytes of a shape, compressed: {error}") from None


def shared(ours: Tensor, other: Tensor) -> tuple[float, float]:
    """How much of a mask lies in another: (share of ours that is in both, share expected by chance).

    By chance, with the other's weights anywhere, it is the other's density. NaN for an empty mask.

    >>> shared(torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False]))
    (0.5, 0.25)
    """
    kept = int(ours.count_nonzero())
    both = int((ours & other).count_nonzero())
    return (both / kept if kept else math.nan), int(other.count_nonzero()) / max(other.numel(), 1)
