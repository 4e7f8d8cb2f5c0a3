"""What a change does to a model's answers, sample by sample, and as a figure with its interval."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from engine.figures.measure import Z95
from engine.types import Basis, Figure


def kl(before: Tensor, after: Tensor) -> Tensor:
    """KL from the answers before to those after, in nat, of each sample (n,); answers are logits (n, c).

    Of scores of tokens (n, c, places) the mean over the places of each sample.

    >>> import torch
    >>> kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])).round(decimals=4).tolist()
    [0.1438]
    """
    old, new = (each.double().log_softmax(1) for each in (before, after))
    return (old.exp() * (old - new)).sum(1).flatten(1).mean(1) if old.dim() > 2 else _summed(old, new)


def _summed(old: Tensor, new: Tensor) -> Tensor:
    return (old.exp() * (old - new)).sum(1)


def loss(before: Tensor, after: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels (n,) after minus before, in nat, of each sample (n,)."""
    old, new = (F.cross_entropy(each.double(), labels, reduction="none") for each in (before, after))
    return new - old


def mean(name: str, each: Tensor, unit: str, how: str) -> Figure:
    """The mean over samples (n,), with its normal 95 % interval."""
    middle, half = float(each.mean()), Z95 * float(each.std(correction=0)) / math.sqrt(len(each))
    return Figure(name, middle, unit, Basis.MEASURED, how, (middle - half, middle + half))
