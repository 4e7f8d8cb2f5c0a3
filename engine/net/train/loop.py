"""One deterministic training loop for the zoo, fine-tuning and distillation.

Order of samples and augmentation come from a generator seeded by (seed, epoch), so that a
run that was stopped anywhere goes on exactly as if it had not been. The loop knows
nothing of recipes; a loss is a function of the net's outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from engine import memory
from engine.data.sets import Samples
from engine.net import processor
from engine.net.incremental import NotNumbers
from engine.net.train.augment import augment, smaller
from engine.net.train.kit import Checkpoint, Kept, Part, Place, make_optimizer
from engine.net.train.losses import Loss, hard_labels
from engine.net.train.plan import Plan
from engine.types import Cancelled, Progress, SlimscopeError

# (net, batches so far) -> new masks (parameter name -> 1 kept, 0 removed), or None where nothing changes
Prune = Callable[[nn.Module, int], Mapping[str, Tensor] | None]
Watch = Callable[[nn.Module], Mapping[str, float]]
Project = Callable[[nn.Module], None]


def fit(
    net: nn.Module,
    samples: Samples,
    plan: Plan,
    *,
    loss: Loss = hard_labels,
    masks: Mapping[str, Tensor] | None = None,
    parts: Sequence[Part] = (),
    project: Project | None = None,
    prune: Prune | None = None,
    watch: Watch | None = None,
    watch_every: int | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train `net` in place (it must be a fork) and return the live series, one row per report.

    With `masks`, the gradients of removed weights are zeroed before each step, so that neither
    momentum nor weight decay revives them. `parts` learn at their own rates, beside the net or in it.
    `project` may change the net after each step; removed weights are zero again after it. `prune` is
    asked before each batch, with the number of batches so far, for masks that replace the last ones:
    the net is pruned while it trains. `watch` is asked after each epoch, or after each `watch_every`
    batches and the last, and its numbers join the row. With `checkpoint`, each epoch is written there,
    and the batch at which `progress` raises Cancelled; a present file is resumed, and the rows in it
    are reported again. Raises SlimscopeError for targets that say
    no loss, and after an epoch whose weights are not finite.
    """
    samples.check_loss()
    optimizer = make_optimizer(net, plan, parts)
    saved = Checkpoint(checkpoint, net, optimizer, parts)
    at = saved.resume()
    kept = Kept(net, masks if at.masks is None else at.masks)
    step = _Step(net, plan, optimizer, loss, parts, project, kept)
    run = _Run(step, samples, progress or Progress(), saved, prune, watch, watch_every, at)
    for row in at.rows:
        run.progress(at.epoch / plan.epochs, row)
    net.to(memory_format=step.layout)  # type: ignore[call-overload]
    with memory.held():
        while run.at.epoch < plan.epochs:
            run.epoch()
    step.train(False)
    return run.at.rows


@dataclass
class _Step:
    """What one batch does to the net and its parts."""

    net: nn.Module
    plan: Plan
    optimizer: torch.optim.Optimizer
    loss: Loss
    parts: Sequence[Part]
    project: Project | None
    kept: Kept
    erases: bool = False  # momentum from before a pruning still moves what it removed

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.plan.channels_last else torch.contiguous_format

    def train(self, on: bool = True) -> None:
        for module in (self.net, *(part.module for part in self.parts)):
            module.train(on)

    def __call__(self, inputs: Tensor, labels: Tensor, done: float) -> tuple[Tensor, Tensor]:
        """One step on a batch when the share `done` of the run is over: its loss and logits."""
        rate = self.plan.rate(done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        short = self.plan.precision == "bfloat16" and processor.has_bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            value, logits = self.loss(self.net, inputs.contiguous(memory_format=self.layout), labels)
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        self.kept.hold()
        if self.plan.clip_norm is not None:
            learning = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(learning, self.plan.clip_norm)
        self.optimizer.step()
        if self.project is not None:
            with torch.no_grad():
                self.project(self.net)
        if self.erases or self.project is not None:
            self.kept.erase()
        return value.detach(), logits.detach()


@dataclass
class _Run:
    """Epochs of steps, who is told of them, and how far they have come."""

    step: _Step
    samples: Samples
    progress: Progress
    saved: Checkpoint
    prune: Prune | None
    watch: Watch | None
    watch_every: int | None
    at: Place
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.plan = self.step.plan
        self.steps = math.ceil(len(self.samples) / self.plan.batch)
        self.step.erases = self.at.masks is not None

    def epoch(self) -> None:
        self.step.train()
        for rows in torch.split(self._order(), self.plan.batch)[self.at.step :]:
            batches = self.at.epoch * self.steps + self.at.step
            self._prune(batches)
            labels = self.samples.labels[rows]
            value, logits = self.step(self._inputs(rows), labels, batches / (self.plan.epochs * self.steps))
            self._count(value, logits, labels)
            try:
                self._tell(batches + 1)
            except Cancelled:
                self.at.random = self.generator.get_state()
                self.saved.keep(self.at)
                raise
        self._close()

    def _order(self) -> Tensor:
        self.generator.manual_seed(self.plan.seed * 1_000_003 + self.at.epoch)
        order = torch.randperm(len(self.samples), generator=self.generator)
        if self.at.random is not None:
            self.generator.set_state(self.at.random)
        return order

    def _inputs(self, rows: Tensor) -> Tensor:
        inputs = augment(self.samples.inputs(rows), self.plan, self.generator)
        return smaller(inputs) if self.at.epoch < self.plan.small_epochs else inputs

    def _prune(self, batches: int) -> None:
        new = self.prune(self.step.net, batches) if self.prune is not None else None
        if new is not None:
            self.at.masks = dict(new)
            self.step.kept, self.step.erases = Kept(self.step.net, new), True
            self.step.kept.erase()

    def _count(self, value: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.at.step += 1
        self.at.seen += len(labels)
        places = labels.numel() // len(labels)  # 1, or the tokens that are foretold in each sample
        self.at.right += int((logits.argmax(1) == labels).sum()) / places
        self.at.loss += float(value) * len(labels)

    def _tell(self, batches: int) -> None:
        """After a batch: within an epoch a row about 20 times, and where it is watched."""
        at, last = self.at, self.at.step == self.steps
        passed = at.epoch + at.step / self.steps
        row = {"epoch": passed, "loss": at.loss / at.seen}
        if self.watch and self.watch_every and not last and batches % self.watch_every == 0:
            at.rows.append(row | self._watched(self.watch))
            self.progress(passed / self.plan.epochs, at.rows[-1])
        elif not last and at.step % max(1, self.steps // 20) == 0:
            self.progress(passed / self.plan.epochs, row)
        elif self.progress.cancelled():
            raise Cancelled("cancelled")

    def _close(self) -> None:
        """After an epoch: its row, what is watched, and the next one's place."""
        at = self.at
        self._check()
        self.saved.keep(at)  # the watch may take long, and is not asked whether to stop
        row = {"epoch": at.epoch + 1.0, "loss": at.loss / at.seen, "train accuracy": at.right / at.seen}
        over, batches = at.epoch + 1 == self.plan.epochs, (at.epoch + 1) * self.steps
        if self.watch and (not self.watch_every or over or batches % self.watch_every == 0):
            row |= self._watched(self.watch)
        self.at = Place(at.epoch + 1, rows=[*at.rows, row], masks=at.masks)
        self.saved.keep(self.at)
        self.progress(self.at.epoch / self.plan.epochs, row)

    def _check(self) -> None:
        tensors = [t for t in self.step.net.state_dict().values() if t.is_floating_point()]
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise SlimscopeError(
                "training ended in weights that are not finite numbers: "
                f"lower the learning rate ({self.plan.learning_rate:g})"
            )

    def _watched(self, watch: Watch) -> dict[str, float]:
        self._check()
        self.step.train(False)
        try:
            said = dict(watch(self.step.net))
        except NotNumbers as error:
            raise SlimscopeError(f"{error}; lower the learning rate ({self.plan.learning_rate:g})") from None
        self.step.train()
        return said
