"""What a training is built from: parts with their own rates, masks that keep zeros, one optimizer, one file.

It knows nothing of samples and epochs: that is the loop's.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.net.train.plan import Plan
from engine.types import SlimscopeError


@dataclass(frozen=True)
class Part:
    """Parameters that learn at `rate` times the plan's rate: a translator beside the net, step sizes in it.

    Parameters of the net that a part names are trained as the part says. `weight_decay` None is the plan's.
    """

    name: str
    module: nn.Module
    rate: float = 1.0
    weight_decay: float | None = None

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.module.parameters() if p.requires_grad]


def make_optimizer(net: nn.Module, plan: Plan, parts: Sequence[Part] = ()) -> torch.optim.Optimizer:
    """One group for the net and one for each part, `scale` times the plan's rate.

    Raises SlimscopeError where two parts have the same name or the same parameter.
    """
    _check(parts)
    taken = {id(p) for part in parts for p in part.parameters()}
    own = [p for p in net.parameters() if p.requires_grad and id(p) not in taken]
    groups = [_group(own, 1.0, plan.weight_decay)] if own else []
    for part in parts:
        decay = plan.weight_decay if part.weight_decay is None else part.weight_decay
        groups.append(_group(part.parameters(), part.rate, decay))
    if plan.optimizer == "adam":
        return torch.optim.Adam(groups, plan.learning_rate, fused=True)
    return torch.optim.SGD(groups, plan.learning_rate, momentum=0.9, nesterov=True)


def _group(parameters: list[nn.Parameter], scale: float, weight_decay: float) -> dict[str, object]:
    return {"params": parameters, "scale": scale, "weight_decay": weight_decay}


def _check(parts: Sequence[Part]) -> None:
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise SlimscopeError(f"parts are named {', '.join(names)}: each needs a name of its own")
    owner: dict[int, str] = {}
    for part in parts:
        for p in part.parameters():
            if owner.setdefault(id(p), part.name) != part.name:
                raise SlimscopeError(
                    f"parts {owner[id(p)]} and {part.name} share a parameter: it learns at one rate only"
                )


# ---------------------------------------------------------------- masks


def zero_masks(net: nn.Module) -> dict[str, Tensor]:
    """Which weights are kept: for each matrix with exact zeros, 1 where the weight is not zero.

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.data = torch.tensor([[3.0, 0.0]])
    >>> zero_masks(layer)
    {'weight': tensor([[1., 0.]])}
    """
    return {
        name: (p.detach() != 0).to(p.dtype)
        for name, p in net.named_parameters()
        if p.dim() >= 2 and bool((p == 0).any())
    }


class Kept:
    """Parameters of a net and their masks (1 kept, 0 removed)."""

    def __init__(self, net: nn.Module, masks: Mapping[str, Tensor] | None) -> None:
        named = net.named_parameters()
        self.pairs = [(p, masks[name]) for name, p in named if name in masks] if masks else []
        self.gone = [(p, mask == 0) for p, mask in self.pairs]

    def hold(self) -> None:
        """Zero the gradients of removed weights: neither momentum nor weight decay revives them."""
        for p, mask in self.pairs:
            if p.grad is not None:
                p.grad.mul_(mask)

    @torch.no_grad()
    def erase(self) -> None:
        """Set removed weights to zero."""
        for p, gone in self.gone:
            p.masked_fill_(gone, 0.0)


# ---------------------------------------------------------------- one file for all parts


@dataclass
class Place:
    """How far a run has come: whole epochs and their rows, and the sums over `step` batches of the next."""

    epoch: int = 0
    step: int = 0
    seen: int = 0
    right: float = 0.0
    loss: float = 0.0
    random: Tensor | None = None  # the generator behind those batches, where they were interrupted
    rows: list[dict[str, float]] = field(default_factory=list)
    masks: dict[str, Tensor] | None = None  # those of the last pruning, where the net is pruned on the way


@dataclass(frozen=True)
class Checkpoint:
    """The file of a run: net, parts, optimizer and place. Without a path nothing is kept."""

    path: Path | None
    net: nn.Module
    optimizer: torch.optim.Optimizer
    parts: Sequence[Part] = ()

    def keep(self, at: Place) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        states = {part.name: part.module.state_dict() for part in self.parts}
        learned = {"net": self.net.state_dict(), "parts": states, "optimizer": self.optimizer.state_dict()}
        torch.save({**learned, **vars(at)}, partial)
        os.replace(partial, self.path)

    def resume(self) -> Place:
        """Take what a present file holds; a new run's place where there is none, or it was cut off.

        Raises SlimscopeError where the file is of a run with other parts.
        """
        if self.path is None or not self.path.exists():
            return Place()
        try:
            state = torch.load(self.path, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):  # cut off with the machine's power
            return Place()
        states = state.pop("parts", {})  # files from before there were parts have none
        if set(states) != {part.name for part in self.parts}:
            known = ", ".join(sorted(states)) or "none"
            wanted = ", ".join(part.name for part in self.parts) or "none"
            raise SlimscopeError(f"{self.path.name} is of a run with other parts: {known}; here {wanted}")
        self.net.load_state_dict(state.pop("net"))
        for part in self.parts:
            part.module.load_state_dict(states[part.name])
        scales = [group["scale"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state.pop("optimizer"))
        for group, scale in zip(self.optimizer.param_groups, scales, strict=True):
            group["scale"] = scale  # files from before there were parts have none
        return Place(**state)
