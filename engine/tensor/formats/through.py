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


class StraightThrough(nn.Module):
    """Trains a parameter in its format: floats in, decode(encode(floats)) out, and a gradient for them.

    What the format has beside its codes (step sizes, table entries) are the module's own parameters.
    """

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor: ...

    @abstractmethod
    def encode(self, latent: Tensor) -> Param:
        """The floats in the format, with what was learned."""
