"""Learned rounding of one layer: which weights go up, which go down, so that its outputs stay as they were.

Nagel 2020, Up or Down? Adaptive Rounding for Post-Training Quantization, arXiv 2004.10568, section 3.3. Rows
in, codes out; where the rows come from is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

BATCH = 128  # rows of a step
RATE = 0.03
WEIGHT = 1.0  # of the regulariser, for errors in steps of a weight and inputs of mean square 1
WARM = 0.2  # share of the steps without it
STEEPEST, FLATTEST = 20.0, 2.0  # beta at its start and at its end
STRETCH = 1.2, -0.1  # of the sigmoid, so that it reaches 0 and 1


def rectified(latent: Tensor) -> Tensor:
    """The share of a step that a weight goes up: a stretched sigmoid, cut off at 0 and 1.

    >>> rectified(torch.tensor([-9.0, 0.0, 9.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (torch.sigmoid(latent) * STRETCH[0] + STRETCH[1]).clamp(0, 1)


def latent_of(share: Tensor) -> Tensor:
    """What `rectified` makes a share from 0 to 1 of."""
    return torch.logit((share - STRETCH[1]) / STRETCH[0])


def beta_at(done: float) -> float:
    """The exponent of the regulariser when a share of the steps is done: along a cosine, from 20 to 2."""
    part = max(done - WARM, 0.0) / (1 - WARM)
    return FLATTEST + (STEEPEST - FLATTEST) * (1 + math.cos(math.pi * part)) / 2


def learn(
    rows: Tensor,
    goal: Tensor,
    weight: Tensor,
    scale: Tensor,
    top: int,
    steps: int,
    seed: int,
    tell: Callable[[float], object] = lambda done: None,
) -> Tensor:
    """Codes (outputs, inputs) int32 from -top to top that bring `rows` near the goal.

    `rows` (points, inputs) is what enters the layer as it is rounded so far, `goal` (points, outputs) what it
    should give, without its bias; `weight` (outputs, inputs), `scale` (outputs,). Each code is one of the two
    around its weight; exact zeros stay. `tell` is called with the share that is done. The same seed gives
    the same codes.
    """
    step = scale[:, None]
    below = (weight / step).floor()
    latent = latent_of(weight / step - below).requires_grad_()
    alive, energy = (weight != 0).float(), rows.square().mean().clamp(min=1e-30)
    optimizer, rng = torch.optim.Adam([latent], RATE), torch.Generator().manual_seed(seed)
    for number in range(steps):
        tell(number / steps)
        batch = torch.randint(len(rows), (min(BATCH, len(rows)),), generator=rng)
        share = rectified(latent)
        rounded = (below + share).clamp(-top, top) * alive
        off = rows[batch] @ rounded.T - goal[batch] / scale
        loss = off.square().sum(1).mean() / energy
        if number >= WARM * steps:
            spread = 1 - (2 * share - 1).abs().pow(beta_at(number / steps))
            loss = loss + WEIGHT * (spread * alive).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    up = (rectified(latent.detach()) >= 0.5).float()
    return ((below + up).clamp(-top, top) * alive).to(torch.int32)
