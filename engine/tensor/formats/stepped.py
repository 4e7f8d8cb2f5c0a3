"""Values rounded to whole steps of a size that learns (LSQ: Esser 2020, arXiv 1902.08153)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.tensor.compiled import compiled, compiled_in_any_order

Floats = npt.NDArray[np.float32]
MANY = 4096  # values: fewer are rounded as fast by torch


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


class Stepped(torch.autograd.Function):
    """What `stepped` gives. Many values on one step go through memory once each way."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, step: Tensor, bottom: Tensor, top: Tensor, factor: Tensor, signs: bool
    ) -> Tensor:
        ctx.like, ctx.shape = values.dtype, step.shape
        ctx.is_one = step.numel() == bottom.numel() == top.numel() == 1 and values.numel() >= MANY
        ctx.is_one = ctx.is_one and not signs and values.dtype in (torch.float32, torch.bfloat16)
        if ctx.is_one:
            values = _dense(values.float())
            rounded = torch.empty_like(values)
            _round(_flat(values), _flat(rounded), *map(_number, (step, bottom, top)))
            ctx.save_for_backward(values, step, bottom, top, factor)
            return rounded
        steps = values / step
        codes = steps.sign() if signs else steps.clamp(bottom, top).round_()
        ctx.save_for_backward(steps, codes, bottom, top, factor)
        return codes * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        of_values, of_step = (_once if ctx.is_one else _in_turn)(ctx, grads[0])
        return of_values.to(ctx.like), of_step, None, None, None, None


def _in_turn(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
    steps, codes, bottom, top, factor = ctx.saved_tensors
    within = (steps >= bottom).logical_and_(steps <= top)
    if not ctx.needs_input_grad[1]:
        return grad * within, None
    away = codes - steps.masked_fill(~within, 0.0)  # a step near zero makes infinitely many of them
    return grad * within, away.mul_(grad).sum_to_size(ctx.shape) * factor


def _once(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    values, step, bottom, top, factor = ctx.saved_tensors
    given = torch.empty_like(values).copy_(grad)  # in the order of the values in memory
    total = _give_back(_flat(values), _flat(given), *map(_number, (step, bottom, top)))
    return given, float(total) * factor.expand(ctx.shape)


def _dense(values: Tensor) -> Tensor:
    """Without gaps in memory, photos in the order that they have."""
    is_last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return values if is_last else values.contiguous()


def _flat(values: Tensor) -> Floats:
    """All values in the order in which they lie in memory."""
    found: Floats = values.detach().as_strided((values.numel(),), (1,), values.storage_offset()).numpy()
    return found


def _number(one: Tensor) -> np.float32:
    return np.float32(one.item())


@compiled
def _round(values: Floats, rounded: Floats, step: np.float32, bottom: np.float32, top: np.float32) -> None:
    for i in range(len(values)):
        steps = values[i] / step
        steps = bottom if steps < bottom else steps
        steps = top if steps > top else steps
        rounded[i] = np.rint(steps) * step


@compiled_in_any_order
def _give_back(
    values: Floats, grads: Floats, step: np.float32, bottom: np.float32, top: np.float32
) -> np.float32:
    """The step's gradient; what values beyond the ends are given becomes zero in its place."""
    total = np.float32(0)
    for i in range(len(values)):
        steps = values[i] / step
        within = (steps >= bottom) & (steps <= top)
        code = bottom if steps < bottom else steps
        code = np.rint(top if code > top else code)
        total += (code - (steps if within else np.float32(0))) * grads[i]
        grads[i] = grads[i] * np.float32(within)
    return total
