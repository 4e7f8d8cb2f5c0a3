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


def above_zero(step: Tensor) -> Tensor:
    """Step sizes that may divide; one that was driven below zero still gets its gradient, and can come back.

    >>> step = torch.tensor([-1.0, 1.0], requires_grad=True)
    >>> above_zero(step).sum().backward()
    >>> (above_zero(step) > 0).tolist(), step.grad.tolist()
    ([True, True], [1.0, 1.0])
    """
    return through(step, step.detach().clamp(min=torch.finfo(torch.float32).tiny))


class Stepped(torch.autograd.Function):
    """Values rounded to whole steps; both learn."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, step: Tensor, bottom: Tensor, top: Tensor, factor: Tensor, signs: bool
    ) -> Tensor:
        steps = values / step
        codes = steps.sign() if signs else steps.clamp(bottom, top).round_()
        ctx.save_for_backward(steps, codes, bottom, top, factor)
        ctx.like, ctx.shape = values.dtype, step.shape
        return codes * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        steps, codes, bottom, top, factor = ctx.saved_tensors
        within = (steps >= bottom).logical_and_(steps <= top)
        of_step = None
        if ctx.needs_input_grad[1]:
            away = codes - steps.masked_fill(~within, 0.0)  # a step near zero makes infinitely many of them
            of_step = away.mul_(grads[0]).sum_to_size(ctx.shape) * factor
        return (grads[0] * within).to(ctx.like), of_step, None, None, None, None


def stepped(
    values: Tensor, step: Tensor, bottom: Tensor, top: Tensor, factor: Tensor, signs: bool = False
) -> Tensor:
    """round(clip(values / step, bottom, top)) * step, with the gradients of LSQ; all broadcast.

    Values within the ends, the ends included, have the gradient of what they become, those beyond have none.
    A step's gradient is round(v / step) - v / step within, and the end beyond, times `factor`. Whether a
    value is within is asked before it is rounded (torch's learnable fake quantize asks afterwards, and
    differs in the outer half of a step). `signs` rounds to -1, 0 and 1.
    (Esser 2020, arXiv 1902.08153, equations 1 to 5)

    >>> step, v = torch.tensor([0.5], requires_grad=True), torch.tensor([0.6, 9.0], requires_grad=True)
    >>> rounded = stepped(v, step, torch.tensor(-4), torch.tensor(3), torch.tensor(0.1))
    >>> rounded.sum().backward()
    >>> rounded.tolist(), v.grad.tolist(), round(step.grad.item(), 4)
    ([0.5, 1.5], [1.0, 0.0], 0.28)
    """
    rounded: Tensor = Stepped.apply(values, step, bottom, top, factor, signs)  # type: ignore[no-untyped-call]
    return rounded


class StraightThrough(nn.Module):
    """Trains a parameter in its format: floats in, decode(encode(floats)) out, and a gradient for them.

    What the format has beside its codes (step sizes, table entries) are the module's own parameters.
    """

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor: ...

    @abstractmethod
    def encode(self, latent: Tensor) -> Param:
        """The floats in the format, with what was learned."""
