"""Images distilled from a model: noise that is moved until batch-norm sees what it saw in training.

ZeroQ (Cai et al. 2020, arXiv 2001.00281, section 3.1). No data are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.net import sources, zoo
from engine.net.averages import NORMS
from engine.types import Bundle, Progress, SlimscopeError

RATE = 0.1  # of Adam, which falls along a cosine
SNAPSHOTS = 4  # times at which images are looked at, the first and last step among them


@dataclass(frozen=True)
class Distilled:
    """Images (n, ...) as a model takes them, the loss before each step, and the images on their way."""

    images: Tensor
    losses: Sequence[float]
    seen: Mapping[int, Tensor]  # steps done -> the images then


def check(bundle: Bundle) -> None:
    """Raises SlimscopeError for a model without statistics of batch-norm, or that reads no floats."""
    if not bundle.arch.runs:
        return
    net = zoo.skeleton(bundle.arch)
    if not any(isinstance(layer, NORMS) and layer.running_mean is not None for layer in net.modules()):
        raise SlimscopeError(
            f"{bundle.arch.title} has no batch-norm: it keeps no statistics of its data to distil from"
        )
    if not sources.inputs(bundle.arch).is_floating_point():
        raise SlimscopeError(f"{bundle.arch.title} reads whole numbers: they can't be distilled step by step")


@dataclass(frozen=True)
class Pixels:
    """How a model takes pixels from 0 to 1: minus `mean`, over `std`, of each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def ends(self) -> tuple[Tensor, Tensor]:
        """What black and white are to the model: (channels, 1, 1) each."""
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (self.mean, self.std))
        return -mean / std, (1 - mean) / std


def noise(bundle: Bundle, count: int, seed: int, pixels: Pixels | None) -> Tensor:
    """Normal noise like the model's inputs, between black and white where these are known: (count, ...)."""
    shape = sources.inputs(bundle.arch).shape[1:]
    drawn = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    return drawn if pixels is None else drawn.clamp_(*pixels.ends())


def distil(
    bundle: Bundle, count: int, steps: int, seed: int, pixels: Pixels | None, progress: Progress
) -> Distilled:
    """Move noise by Adam until each batch-norm's mean and deviation are those that it keeps.

    The loss is the mean over channels of the squared differences, added over layers. Where it is known how
    the model takes `pixels`, they stay between black and white, and the inputs' own mean and deviation are
    held to 0 and 1 as well. Raises Cancelled through `progress`.
    """
    net = zoo.fork(bundle).eval().requires_grad_(False)
    losses: list[Tensor] = []
    for layer in net.modules():
        if isinstance(layer, NORMS) and layer.running_mean is not None:
            layer.register_forward_pre_hook(_meet(losses))
    images = noise(bundle, count, seed, pixels).requires_grad_()
    adam = torch.optim.Adam([images], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    shown = {round(i * steps / (SNAPSHOTS - 1)) for i in range(SNAPSHOTS)}
    seen, told = {0: images.detach().clone()}, list[float]()
    for step in range(1, steps + 1):
        losses.clear()
        with torch.enable_grad():
            net(images)
            if pixels is not None:
                losses.append(gap(images, torch.tensor(0.0), torch.tensor(1.0)))
            loss = torch.stack(losses).sum()
            (images.grad,) = torch.autograd.grad(loss, [images])
        adam.step()
        schedule.step()
        if pixels is not None:
            images.data.clamp_(*pixels.ends())
        told.append(float(loss.detach()))
        if step in shown:
            seen[step] = images.detach().clone()
        progress(step / steps, {"epoch": float(step), "loss": told[-1]})
    return Distilled(images.detach(), told, seen)


def gap(entering: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Squared differences of channels' means and deviations (biased) from those wanted, mean over channels.

    >>> float(gap(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0]), torch.tensor([2.0])))
    5.0
    """
    channels = entering.transpose(0, 1).flatten(1)
    found = channels.var(1, unbiased=False).clamp(min=1e-12).sqrt()
    return (channels.mean(1) - mean).square().mean() + (found - deviation).square().mean()


def _meet(losses: list[Tensor]) -> Callable[[nn.Module, Any], None]:
    def hook(layer: Any, args: tuple[Tensor, ...]) -> None:
        losses.append(gap(args[0], layer.running_mean, layer.running_var.clamp(min=0).sqrt()))

    return hook
