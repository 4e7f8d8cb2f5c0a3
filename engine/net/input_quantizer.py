"""Rounds what enters or leaves a layer: one scale found beforehand, one of each batch, or of each token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.tensor.affine import affine_from_range, code_range, round_through

VERBS = ("quantize_input", "quantize_output")  # the edits that round; they move no channel


def is_of_quantizer(name: str) -> bool:
    """Whether a parameter is a scale or a zero point of what enters or leaves a layer.

    >>> is_of_quantizer("conv1.input_quantizer.scale"), is_of_quantizer("conv1.weight")
    (True, False)
    """
    return ".input_quantizer." in name or ".output_quantizer." in name


class InputQuantizer(nn.Module):
    """Rounds what enters a layer to an affine grid: `scale * (code - zero)`, codes from low to high.

    Static: scale and zero are parameters of the bundle, found by calibration. Dynamic: they are taken from
    the smallest and largest value at run time: of each batch, or of all that shares its place on the first
    `alone` axes (from the last one where negative), so that no sample changes another's answer. One that
    prunes takes `prune` off first: on a grid from zero up, what lies below becomes zero (QIL: Jung 2019,
    arXiv 1808.05779).

    >>> rounded = InputQuantizer(2, True, True, alone=1)(torch.tensor([[1.0, 0.4], [8.0, 0.4]]))
    >>> rounded.tolist()
    [[1.0, 0.0], [8.0, 0.0]]
    """

    scale: Tensor
    zero: Tensor
    prune: Tensor

    def __init__(
        self, bits: int, symmetric: bool, dynamic: bool, alone: int = 0, prunes: bool = False
    ) -> None:
        super().__init__()
        self.bits, self.symmetric, self.dynamic, self.alone = bits, symmetric, dynamic, alone
        self.prunes = prunes
        if prunes:
            self.register_buffer("prune", torch.zeros(1))
        if not dynamic:
            self.register_buffer("scale", torch.ones(1))
            self.register_buffer("zero", torch.zeros(1))

    def affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point for this input; they spread over it."""
        if not self.dynamic:
            return self.scale, self.zero
        each = x.detach().flatten(self.alone) if self.alone else x.detach().flatten()
        rest = [1] * (x.dim() - each.dim() + 1) if self.alone else []
        low, high = (end.reshape((*each.shape[:-1], *rest)) for end in (each.amin(-1), each.amax(-1)))
        return affine_from_range(low, high, self.bits, self.symmetric)

    def forward(self, x: Tensor) -> Tensor:
        low, high = code_range(self.bits, self.symmetric)
        x = x - self.prune if self.prunes else x
        scale, zero = self.affine(x)
        whole = round_through(x / scale) if self.training else torch.round(x / scale)
        return (torch.clamp(whole + zero, low, high) - zero) * scale


def alone_of(layer: nn.Module) -> int:
    """Leading axes whose places are rounded by themselves: tokens of a sequence, or samples of images.

    >>> alone_of(nn.Linear(2, 2)), alone_of(nn.Conv2d(2, 2, 1))
    (-1, 1)
    """
    return -1 if isinstance(layer, nn.Linear | nn.RNNBase) else 1
