"""Losses on feature maps: where a teacher looks, and what the factors of its maps are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.net.stages import listen
from engine.net.train.losses import Loss

ATTENTION = 1000.0  # weight of the authors' code, over the mean of squares
Ends = Sequence[tuple[str, str]]  # modules of teacher and student whose maps are of one size


def attention(maps: Tensor) -> Tensor:
    """Where feature maps (n, channels, h, w) are active: sums of squares of channels, (n, h * w), of norm 1.

    (Zagoruyko, Komodakis 2017, Paying More Attention to Attention, arXiv 1612.03928)

    >>> maps = torch.tensor([[[[2.0, 1.0]], [[0.0, -1.0]], [[1.0, 0.0]]]])
    >>> [round(share, 2) for share in attention(maps).flatten().tolist()]
    [0.93, 0.37]
    """
    return F.normalize(maps.float().square().sum(1).flatten(1))


def attending_as(teacher: nn.Module, student: nn.Module, ends: Ends, alpha: float) -> Loss:
    """alpha * 1000 * squared differences of attention + (1 - alpha) * cross-entropy.

    The squares are averaged over images and places, and added over the pairs of modules in `ends`. Both nets
    are forks: they have hooks from now on. The teacher is in eval mode and not trained.
    """
    shown = listen(teacher, [name for name, _ in ends])
    own = listen(student, [name for _, name in ends])

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            teacher(inputs)
        logits = net(inputs).float()
        gaps = [F.mse_loss(attention(own[name]), attention(shown[theirs])) for theirs, name in ends]
        soft = ATTENTION * torch.stack(gaps).sum()
        return alpha * soft + (1 - alpha) * F.cross_entropy(logits, labels), logits

    return loss
