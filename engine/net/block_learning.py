"""A rounded block of a model learns to give what it gave before: layer-by-layer distillation.

Yao 2022, ZeroQuant, arXiv 2206.01861, section 4.3. Labels are not looked at, and of the model only what
enters the block is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Samples
from engine.net import blocks, zoo
from engine.net.blocks import Entering
from engine.net.surgery import get_layer
from engine.net.train import Part, Plan, fit, stored, train_on, zero_masks
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Bundle, Param, Progress

STILL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # stay in eval mode
SAID = ("epoch", "loss")  # of the rows of a training: a block has no accuracy


@dataclass(frozen=True)
class Tutor:
    """How blocks learn: samples (n, ...), which of them are learned from, and which errors are measured on.

    The goal is what a block gave for the same inputs; `in_model`: what it gave in the model before.
    """

    inputs: Tensor
    rows: Tensor
    held: Tensor
    plan: Plan
    in_model: bool


@dataclass(frozen=True)
class Learned:
    """The model with one block more that has learned, how far it was off before and after, and its losses.

    Where it got `worse`, the block is as it was.
    """

    bundle: Bundle
    worse: bool
    error_before: float
    error_after: float
    losses: Sequence[Mapping[str, float]]


def relative_error(given: Tensor, wanted: Tensor) -> float:
    """Norm of (given - wanted) over the norm of wanted; 0 where nothing is wanted.

    >>> relative_error(torch.tensor([3.0]), torch.tensor([4.0]))
    0.25
    """
    norm = float(wanted.norm())
    return float((given - wanted).norm()) / norm if norm > 0 else 0.0


def learn_block(
    before: Bundle,
    now: Bundle,
    block: str,
    weights: Sequence[str],
    tutor: Tutor,
    progress: Progress,
    checkpoint: Path | None = None,
) -> Learned:
    """Let one block of `now` learn to give what it gives in `before`, whose weights it starts from.

    `weights` are those of the block that `now` has in codes. What enters it comes from `now`. A block that
    is further off behind it, on the samples that it learned from, stays as it was. Raises Cancelled through
    `progress`; a present checkpoint is resumed.
    """
    prefix = f"{block}." if block else ""
    whole = zoo.fork(before).eval()
    entered = blocks.entering(zoo.fork(now).eval(), block, tutor.inputs)
    original = blocks.entering(whole, block, tutor.inputs) if tutor.in_model else entered
    goal = original.outputs(get_layer(whole, block))

    def error(bundle: Bundle, rows: Tensor) -> float:
        given = entered.outputs(get_layer(zoo.fork(bundle).eval(), block), rows)
        return relative_error(given, goal[rows])

    floats = {name: Dense(before.params[name].decode()) for name in weights}
    learner = get_layer(zoo.fork(now.become({**now.params, **floats})), block)
    tied = {*before.arch.ties, *before.arch.ties.values()}  # another block reads it as well
    for name, own in learner.named_parameters():
        own.requires_grad_(prefix + name not in tied)
    grids = {name.removeprefix(prefix): now.params[name] for name in weights}
    part = train_on(learner, grids, 1 / max(_steps_above_zero(grid) for grid in grids.values()))
    losses = fit_block(learner, part, entered, goal, tutor, progress, checkpoint)
    codes = {prefix + name: param for name, param in stored(learner, part).items()}
    others = {
        name: Dense(values.detach().clone())
        for own, values in learner.state_dict().items()
        if (name := prefix + own) in now.params and name not in codes
    }
    after = now.become({**now.params, **_unless_kept(now.params, others), **codes})
    worse = error(after, tutor.rows) > error(now, tutor.rows)
    kept = now if worse else after
    return Learned(kept, worse, error(now, tutor.held), error(kept, tutor.held), losses)


def _steps_above_zero(param: Param) -> int:
    """How far a step size moves the outermost level: Adam, to whom all numbers are alike, is slowed by it."""
    assert isinstance(param, AffineGrid)
    return 1 << (param.bits - 1)


def _unless_kept(params: Mapping[str, Param], others: Mapping[str, Dense]) -> dict[str, Param]:
    """What did not learn stays in its format."""
    return {
        name: params[name] if torch.equal(params[name].decode(), new.decode()) else new
        for name, new in others.items()
    }


def fit_block(
    block: nn.Module,
    part: Part,
    entered: Entering,
    goal: Tensor,
    tutor: Tutor,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train a block in place until it gives the goal (samples, ...); the rows of the training: SAID.

    The loss is the mean squared error over the mean square of the goal. Batch-norm keeps its statistics, and
    exact zeros stay. `part` holds what learns beside the block's own numbers.
    """
    scale = goal[tutor.rows].square().mean().clamp(min=1e-30)

    def loss(net: nn.Module, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for module in net.modules():
            if isinstance(module, STILL):
                module.eval()
        off = F.mse_loss(entered.give(net, rows), goal[rows]) / scale
        return off, torch.zeros(len(rows), 1)  # in place of logits

    samples = Samples(tutor.rows, torch.zeros(len(tutor.rows), dtype=torch.int64))
    told = progress.part(0.0, 1.0, lambda row: {key: row[key] for key in SAID})
    given = {"loss": loss, "masks": zero_masks(block), "parts": (part,)}
    made = fit(block, samples, tutor.plan, **given, progress=told, checkpoint=checkpoint)  # type: ignore[arg-type]
    return [{key: row[key] for key in SAID} for row in made]
