"""Factor transfer: what a teacher's feature maps say in fewer channels, and a student that says the same.

(Kim, Park, Kwak 2018, Paraphrasing Complex Network: Network Compression via Factor Transfer,
arXiv 1802.04977)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.net.stages import listen
from engine.net.train.losses import Loss

SLOPE = 0.1  # of leaky ReLU below zero
# inputs -> a teacher's feature maps and logits, without gradients: `stages.reader`
Read = Callable[[Tensor], tuple[Tensor, Tensor]]


def translator(channels: int, factors: int, seed: int) -> nn.Sequential:
    """Three 3x3 convolutions that make `factors` maps of `channels`, with first weights that a seed fixes."""
    return _drawn([(channels, channels), (channels, factors), (factors, factors)], nn.Conv2d, seed)


class Paraphraser(nn.Module):
    """A convolutional auto-encoder of feature maps (n, channels, h, w): its code are the factors."""

    def __init__(self, channels: int, factors: int, seed: int) -> None:
        super().__init__()
        self.factors = factors
        self.encoder = translator(channels, factors, seed)
        widths = [(factors, factors), (factors, channels), (channels, channels)]
        self.decoder = _drawn(widths, nn.ConvTranspose2d, seed + 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.decoder(self.encoder(maps))  # type: ignore[no-any-return]


def _drawn(
    widths: list[tuple[int, int]], kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], seed: int
) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pairs = [(kind(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE)) for inputs, outputs in widths]
        for layer, _ in pairs:  # He 2015: values keep their size from layer to layer
            # The axes of a transposed convolution's weight are the other way round.
            fan: Literal["fan_in", "fan_out"] = "fan_in" if kind is nn.Conv2d else "fan_out"
            nn.init.kaiming_normal_(layer.weight, SLOPE, fan)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def normalised(factors: Tensor) -> Tensor:
    """Factors (n, k, h, w) as vectors (n, k * h * w) of norm 1, whatever their size was.

    >>> [round(share, 4) for share in normalised(torch.tensor([[[[3.0, 4.0]]]])).flatten().tolist()]
    [0.6, 0.8]
    """
    return F.normalize(factors.float().flatten(1))


def factor_gap(theirs: Tensor, own: Tensor) -> Tensor:
    """The mean size of the differences between normalised factors (n, k, h, w) of teacher and student.

    >>> round(float(factor_gap(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[8.0, 6.0]]]]))), 4)
    0.2
    """
    return F.l1_loss(normalised(own), normalised(theirs))


def reconstruction_loss(read: Read) -> Loss:
    """The mean size of a paraphraser's errors on a teacher's maps; the logits beside it are the teacher's."""

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        maps, logits = read(inputs)
        return F.l1_loss(net(maps).float(), maps.float()), logits.float()

    return loss


@torch.inference_mode()
def reconstruction_error(read: Read, paraphraser: nn.Module, batches: Iterable[Tensor]) -> float:
    """Sum of the sizes of a paraphraser's errors over that of a teacher's maps; 0 where these are zero."""
    wrong = total = 0.0
    for inputs in batches:
        maps, _ = read(inputs)
        wrong += float((paraphraser(maps) - maps).abs().sum(dtype=torch.float64))
        total += float(maps.abs().sum(dtype=torch.float64))
    return wrong / total if total else 0.0


def transferring(
    read: Read, encoder: nn.Module, student: nn.Module, name: str, own_encoder: nn.Module, weight: float
) -> Loss:
    """Cross-entropy + weight * `factor_gap` of what the encoders make of the maps of teacher and student.

    `encoder` is the trained paraphraser's, for the maps that `read` gives; `own_encoder`, the translator, for
    those of the student's module `name`. The student is a fork: it has a hook from now on.
    """
    own = listen(student, [name])

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        maps, _ = read(inputs)
        with torch.no_grad():
            goal = encoder(maps)
        logits = net(inputs).float()
        gap = factor_gap(goal, own_encoder(own[name]))
        return F.cross_entropy(logits, labels) + weight * gap, logits

    return loss
