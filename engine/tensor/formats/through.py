"""Straight-through: rounded forward, as if not rounded backward (Bengio 2013, arXiv 1308.3432)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from engine.types import Param


class Through(torch.autograd.Function):
    """`value` bit for bit; its gradient goes to `source` as well, as if it had not been rounded."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], grads[0]


def through(source: Tensor, value: Tensor) -> Tensor:
    """`value`, with a gradient that also goes to `source`.

    >>> x = torch.tensor(1.4, requires_grad=True)
    >>> y = through(x, x.round())
    >>> y.backward()
    >>> y.item(), x.grad.item()
    (1.0, 1.0)
    """
    passed: Tensor = Through.apply(source, value)  # type: ignore[no-untyped-call]
    return passed


class Scaled(torch.autograd.Function):
    """`value` bit for bit; its gradient is multiplied by `factor`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.saved_tensors[0], None


def scaled(value: Tensor, factor: Tensor) -> Tensor:
    """`value`, with a gradient `factor` times as long."""
    same: Tensor = Scaled.apply(value, factor)  # type: ignore[no-untyped-call]
    return same


def above_zero(step: Tensor) -> Tensor:
    """Step sizes that may divide; one that was driven below zero still gets its gradient, and can come back.

    >>> step = torch.tensor([-1.0, 1.0], requires_grad=True)
    >>> above_zero(step).sum().backward()
    >>> (above_zero(step) > 0).tolist(), step.grad.tolist()
    ([True, True], [1.0, 1.0])
    """
    return through(step, step.detach().clamp(min=torch.finfo(torch.float32).tiny))


def whole_steps(values: Tensor, step: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    """How many steps each value is, clipped to bottom..top and rounded; all broadcast.

    Times `step` these are the rounded values v of LSQ (Esser 2020, arXiv 1902.08153, equations 1 to 5): a
    step's gradient is round(v / step) - v / step within the ends, and the end beyond them, where values have
    no gradient. Whether a value is within is asked before it is rounded (torch's learnable fake quantize asks
    afterwards, and differs in the outer half of a step).

    >>> step, v = torch.tensor(0.5, requires_grad=True), torch.tensor([0.6, 9.0], requires_grad=True)
    >>> rounded = whole_steps(v, step, torch.tensor(-4.0), torch.tensor(3.0)) * step
    >>> rounded.sum().backward()
    >>> rounded.tolist(), v.grad.tolist(), round(step.grad.item(), 4)
    ([0.5, 1.5], [1.0, 0.0], 2.8)
    """
    held = (values / step).clamp(bottom, top)
    return through(held, held.round())


class StraightThrough(nn.Module):
    """Trains a parameter in its format: floats in, decode(encode(floats)) out, and a gradient for them.

    What the format has beside its codes (step sizes, table entries) are the module's own parameters.
    """

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor: ...

    @abstractmethod
    def encode(self, latent: Tensor) -> Param:
        """The floats in the format, with what was learned."""
