"""Training on rounded inputs: the step sizes of what enters layers learn with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.net.surgery import InputQuantizer, replace_layer
from engine.net.train.kit import Part
from engine.tensor.affine import code_range
from engine.tensor.formats.stepped import stepped
from engine.tensor.formats.through import above_zero, through

PART = "inputs"


class LearnedInput(InputQuantizer):
    """A static input quantizer whose step size learns (LSQ: Esser 2020, arXiv 1902.08153).

    It rounds as the quantizer that it replaces. A step's gradient is that of `stepped`, times
    1 / sqrt(N * Q): one sample has N numbers here, and Q is the largest number of steps above zero. With a
    prune point that learns beside it, from zero up, it is an interval (QIL: Jung 2019, arXiv 1808.05779).
    """

    def __init__(self, fixed: InputQuantizer) -> None:
        super().__init__(fixed.bits, fixed.symmetric, dynamic=False, prunes=fixed.prunes)
        if fixed.prunes:
            del self.prune
            self.prune = nn.Parameter(fixed.prune.clone())
        del self.scale
        self.scale = nn.Parameter(fixed.scale.clone())
        self.zero = fixed.zero.clone()

    def forward(self, x: Tensor) -> Tensor:
        bottom, top = (end - self.zero for end in code_range(self.bits, self.symmetric))
        factor = 1 / (x[0].numel() * top.clamp(min=1)).sqrt()
        return stepped(self._pruned(x), self.step, bottom, top, factor)

    def _pruned(self, x: Tensor) -> Tensor:
        """What lies above the prune point alone moves it: zeros behind a ReLU do not."""
        if not self.prunes:
            return x
        return x - torch.where(x > self.prune_point, self.prune_point, self.prune_point.detach())

    @property
    def prune_point(self) -> Tensor:
        """What is stored as the quantizer's prune point."""
        return through(self.prune, self.prune.detach().clamp(min=0))

    @property
    def step(self) -> Tensor:
        """What is stored as the quantizer's scale."""
        return above_zero(self.scale)


def train_inputs(net: nn.Module, rate: float = 1.0) -> Part:
    """Let the step sizes of a fork's static input quantizers learn; the part that holds them.

    They learn at `rate` times the plan's rate, without weight decay.

    >>> layer = nn.Linear(2, 1)
    >>> layer.input_quantizer = InputQuantizer(4, symmetric=False, dynamic=False)
    >>> [step.tolist() for step in train_inputs(layer).parameters()]
    [[1.0]]
    """
    found = {
        name: LearnedInput(module)
        for name, module in net.named_modules()
        if isinstance(module, InputQuantizer) and not module.dynamic
    }
    for name, learned in found.items():
        replace_layer(net, name, learned)
    return Part(
        PART, nn.ModuleDict({name.replace(".", "/"): each for name, each in found.items()}), rate, 0.0
    )


def stored_steps(net: nn.Module) -> dict[str, Tensor]:
    """Name in the state_dict -> step size or prune point, of every input quantizer that learned."""
    found = dict[str, Tensor]()
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, LearnedInput):
                found[f"{name}.scale"] = module.step.detach()
                if module.prunes:
                    found[f"{name}.prune"] = module.prune_point.detach()
    return found
