"""One deterministic training loop for the zoo, fine-tuning and distillation.

Order of samples and augmentation come from a generator seeded by (seed, epoch), so that a
run that was stopped anywhere goes on exactly as if it had not been. The loop knows
nothing of recipes; a loss is a function of the net's outputs.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Samples
from engine.net.processor import has_bfloat16
from engine.types import Cancelled, Progress

# (net, inputs (n, c, h, w), labels (n,)) -> scalar loss and logits (n, classes)
Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
# (net, batches so far) -> new masks (parameter name -> 1 kept, 0 removed), or None where nothing changes
Prune = Callable[[nn.Module, int], Mapping[str, Tensor] | None]


@dataclass(frozen=True)
class Plan:
    """How a net is trained. `schedule`: `one-cycle` (warm up, then cosine to zero), `cosine` or `constant`.

    `shift` moves each image by up to that many pixels, `flip` mirrors half of them.
    `small_epochs` first epochs see the images at 3/4 of their size, which costs half the time.
    The `last_epochs` of all are a second, smaller cycle (Loshchilov 2017): a cosine from `last_rate` to zero.
    `precision` `bfloat16` multiplies in 16 bits where the processor can; weights, sums of gradients and
    the loss stay in 32.
    """

    epochs: int
    learning_rate: float
    optimizer: str = "sgd"
    schedule: str = "one-cycle"
    batch: int = 128
    weight_decay: float = 5e-4
    clip_norm: float | None = None
    shift: int = 0
    flip: bool = False
    small_epochs: int = 0
    last_epochs: int = 0
    last_rate: float = 0.0
    channels_last: bool = False
    precision: str = "float32"
    seed: int = 0

    def rate(self, done: float) -> float:
        """Learning rate when the share `done` (0..1) of the run is over."""
        first = 1 - self.last_epochs / self.epochs
        if self.last_epochs and done >= first:
            return self.last_rate * 0.5 * (1 + math.cos(math.pi * (done - first) / (1 - first)))
        done /= first
        match self.schedule:
            case "constant":
                return self.learning_rate
            case "cosine":
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            case "one-cycle":
                warm = 0.25
                if done < warm:
                    return self.learning_rate * (0.04 + 0.96 * done / warm)
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
        raise ValueError(f"schedule {self.schedule!r} is not one of one-cycle, cosine, constant")


def hard_labels(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy against the labels: (scalar loss, logits (n, classes))."""
    logits = net(inputs).float()
    return F.cross_entropy(logits, labels), logits


def softened(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / T) over the last dimension: the higher T, the closer to equal shares.

    >>> [round(share, 4) for share in softened(torch.tensor([2.0, 0.0]), 2.0).tolist()]
    [0.7311, 0.2689]
    """
    return F.softmax(logits / temperature, dim=-1)


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """Hinton's loss of student logits (n, classes) against teacher logits (n, classes) and labels (n,).

    alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) * cross-entropy, both
    averaged over the n samples. T^2 keeps the weight of the first term when T changes, because
    its gradient shrinks with 1 / T^2: for high T it tends to (student - teacher) / classes, the
    gradient of regression on centred logits. No gradient flows to the teacher.
    (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)
    """
    goal = F.log_softmax(teacher.detach() / temperature, dim=-1)
    answer = F.log_softmax(student / temperature, dim=-1)
    soft = F.kl_div(answer, goal, reduction="batchmean", log_target=True) * temperature**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


def learning_from(teacher: nn.Module, temperature: float, alpha: float) -> Loss:
    """The loss of a student of `teacher`, which stays in eval mode and is not trained."""

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            goal = teacher(inputs).float()
        logits = net(inputs).float()
        return distillation_loss(logits, goal, labels, temperature, alpha), logits

    return loss


def suited(plan: Plan, net: nn.Module, samples: Samples, digits: int = 1) -> Plan:
    """The plan with what this net and these images need.

    Recurrent nets get their gradients clipped (they explode over 28 steps now and then). Colour photos are
    shifted by up to 4 pixels and mirrored, digits shifted by up to `digits`: the zoo was trained with one.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in net.modules())
    photos = samples.images.shape[1] == 3
    return replace(
        plan,
        clip_norm=1.0 if recurrent else None,
        shift=4 if photos else digits,
        flip=photos,
        channels_last=photos,
    )


def augment(inputs: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
    """Shifted and mirrored copies of (n, c, h, w); borders are filled with zeros (the mean colour)."""
    n, _, height, width = inputs.shape
    if plan.shift:
        span = 2 * plan.shift + 1
        padded = F.pad(inputs, (plan.shift,) * 4)
        top = torch.randint(span, (n, 1), generator=generator) + torch.arange(height)
        left = torch.randint(span, (n, 1), generator=generator) + torch.arange(width)
        rows = torch.arange(n).view(n, 1, 1)
        inputs = padded.permute(0, 2, 3, 1)[rows, top.unsqueeze(2), left.unsqueeze(1)].permute(0, 3, 1, 2)
    if plan.flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        inputs = torch.where(mirrored.view(n, 1, 1, 1), inputs.flip(3), inputs)
    return inputs


def make_optimizer(net: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    parameters = [p for p in net.parameters() if p.requires_grad]
    if plan.optimizer == "adam":
        return torch.optim.Adam(parameters, plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay, nesterov=True
    )


def zero_masks(net: nn.Module) -> dict[str, Tensor]:
    """Which weights are kept: for each matrix with exact zeros, 1 where the weight is not zero."""
    return {
        name: (p.detach() != 0).to(p.dtype)
        for name, p in net.named_parameters()
        if p.dim() >= 2 and bool((p == 0).any())
    }


@dataclass
class _Place:
    """How far a run has come: whole epochs and their rows, and the sums over `step` batches of the next."""

    epoch: int = 0
    step: int = 0
    seen: int = 0
    right: int = 0
    loss: float = 0.0
    random: Tensor | None = None  # the generator behind those batches, where they were interrupted
    rows: list[dict[str, float]] = field(default_factory=list)
    masks: dict[str, Tensor] | None = None  # those of the last pruning, where the net is pruned on the way


def fit(
    net: nn.Module,
    samples: Samples,
    plan: Plan,
    *,
    loss: Loss = hard_labels,
    masks: Mapping[str, Tensor] | None = None,
    prune: Prune | None = None,
    watch: Callable[[nn.Module], Mapping[str, float]] | None = None,
    watch_every: int | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train `net` in place (it must be a fork) and return the live series, one row per report.

    With `masks`, the gradients of removed weights are zeroed before each step, so that neither
    momentum nor weight decay revives them. `prune` is asked before each batch, with the number of
    batches so far, for masks that replace the last ones: the net is pruned while it trains. `watch`
    is asked after each epoch, or after each `watch_every` batches and the last, and its numbers join
    the row. With `checkpoint`, each epoch is written there, and the batch at which
    `progress` raises Cancelled; a present file is resumed, and the rows in it are reported again.
    """
    progress = progress or Progress()
    optimizer = make_optimizer(net, plan)
    at = _resume(net, optimizer, checkpoint)
    for row in at.rows:
        progress(at.epoch / plan.epochs, row)
    narrow = plan.precision == "bfloat16" and has_bfloat16()
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    net.to(memory_format=layout)  # type: ignore[call-overload]
    steps = math.ceil(len(samples) / plan.batch)
    report_every = max(1, steps // 20)
    generator = torch.Generator()
    kept = _masked(net, masks if at.masks is None else at.masks)

    while at.epoch < plan.epochs:
        net.train()
        generator.manual_seed(plan.seed * 1_000_003 + at.epoch)
        order = torch.randperm(len(samples), generator=generator)
        if at.random is not None:
            generator.set_state(at.random)
        for rows_now in torch.split(order, plan.batch)[at.step :]:
            batches = at.epoch * steps + at.step
            new = prune(net, batches) if prune is not None else None
            if new is not None:
                at.masks, kept = dict(new), _masked(net, new)
                _erase(kept)
            done = batches / (plan.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(done)
            inputs, labels = augment(samples.inputs(rows_now), plan, generator), samples.labels[rows_now]
            if at.epoch < plan.small_epochs:
                inputs = F.interpolate(inputs, scale_factor=0.75, mode="bilinear", antialias=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                value, logits = loss(net, inputs.contiguous(memory_format=layout), labels)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            for p, mask in kept:
                if p.grad is not None:
                    p.grad.mul_(mask)
            if plan.clip_norm is not None:
                nn.utils.clip_grad_norm_(net.parameters(), plan.clip_norm)
            optimizer.step()
            if at.masks is not None:  # momentum from before the pruning still moves what it removed
                _erase(kept)
            at.step += 1
            at.seen += len(labels)
            at.right += int((logits.detach().argmax(1) == labels).sum())
            at.loss += float(value.detach()) * len(labels)
            try:
                passed = at.epoch + at.step / steps
                row = {"epoch": passed, "loss": at.loss / at.seen}
                if watch and watch_every and at.step < steps and (batches + 1) % watch_every == 0:
                    at.rows.append(row | _watched(net, watch))
                    progress(passed / plan.epochs, at.rows[-1])
                elif at.step < steps and at.step % report_every == 0:
                    progress(passed / plan.epochs, row)
                elif progress.cancelled():
                    raise Cancelled("cancelled")
            except Cancelled:
                at.random = generator.get_state()
                _keep(net, optimizer, checkpoint, at)
                raise
        _keep(net, optimizer, checkpoint, at)  # the watch may take long, and is not asked whether to stop
        row = {"epoch": at.epoch + 1.0, "loss": at.loss / at.seen, "train accuracy": at.right / at.seen}
        over, batches = at.epoch + 1 == plan.epochs, (at.epoch + 1) * steps
        if watch is not None and (not watch_every or over or batches % watch_every == 0):
            row |= _watched(net, watch)
        at = _Place(at.epoch + 1, rows=[*at.rows, row], masks=at.masks)
        _keep(net, optimizer, checkpoint, at)
        progress(at.epoch / plan.epochs, row)
    net.eval()
    return at.rows


def _masked(net: nn.Module, masks: Mapping[str, Tensor] | None) -> list[tuple[nn.Parameter, Tensor]]:
    return [(p, masks[name]) for name, p in net.named_parameters() if name in masks] if masks else []


@torch.no_grad()
def _erase(kept: list[tuple[nn.Parameter, Tensor]]) -> None:
    for p, mask in kept:
        p.masked_fill_(mask == 0, 0.0)


def _watched(net: nn.Module, watch: Callable[[nn.Module], Mapping[str, float]]) -> dict[str, float]:
    net.eval()
    said = dict(watch(net))
    net.train()
    return said


def _keep(net: nn.Module, optimizer: torch.optim.Optimizer, path: Path | None, at: _Place) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), **vars(at)}, partial)
    os.replace(partial, path)


def _resume(net: nn.Module, optimizer: torch.optim.Optimizer, path: Path | None) -> _Place:
    if path is None or not path.exists():
        return _Place()
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):  # cut off with the machine's power
        return _Place()
    net.load_state_dict(state.pop("net"))
    optimizer.load_state_dict(state.pop("optimizer"))
    return _Place(**state)
