"""What techniques that train do alike: train, watch validation, compare before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.net import incremental
from engine.net.train import Loss, Part, Plan, Prune, Watch, fit, hard_labels, suited, zero_masks
from engine.tensor.formats import Dense
from engine.types import Bundle, Figure, Progress


def tune(
    net: nn.Module,
    data: Data,
    plan: Plan,
    progress: Progress,
    name: str = "net",
    *,
    told: Progress | None = None,
    loss: Loss = hard_labels,
    masks: Mapping[str, Tensor] | None = None,
    parts: Sequence[Part] = (),
    prune: Prune | None = None,
    watch: Watch | None = None,
    watch_every: int | None = None,
    digits: int = 1,
) -> list[dict[str, float]]:
    """Train the fork `net` by a plan suited to it and return the live series.

    Zeros are kept, or what `masks` says; digits are shifted by up to `digits` pixels. Validation accuracy is
    watched unless `watch` says otherwise. The checkpoint is `name` of `progress`; `told` hears of the
    training, where it is only a share of `progress`.
    """
    return fit(
        net,
        data.train,
        suited(plan, net, data.train, digits),
        loss=loss,
        masks=zero_masks(net) if masks is None else masks,
        parts=parts,
        prune=prune,
        watch=watch or accuracy_on(data.validation),
        watch_every=watch_every,
        progress=told or progress,
        checkpoint=progress.checkpoint(name),
    )


def accuracy_on(samples: Samples) -> Watch:
    """The watch over accuracy on validation samples."""
    return lambda net: {"validation accuracy": measure.share_right(net, samples)}


class BestWatch:
    """Watches a run on validation and keeps the weights at the least loss, also over a resumption."""

    def __init__(self, samples: Samples, bundle: Bundle, path: Path | None) -> None:
        self.samples, self.bundle, self.path = samples, bundle, path
        self.kept: dict[str, Any] | None = None
        if path is not None and path.exists():
            self.kept = torch.load(path, weights_only=True)

    def __call__(self, net: nn.Module) -> dict[str, float]:
        answers = incremental.checked(measure.logits(net, self.samples))
        loss = float(F.cross_entropy(answers, self.samples.labels))
        right = float((answers.argmax(1) == self.samples.labels).float().mean())  # of samples, or of tokens
        if self.kept is None or loss < self.kept["loss"]:
            self.kept = {"loss": loss, "state": state_of(net, self.bundle)}
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                partial = self.path.with_suffix(".partial")
                torch.save(self.kept, partial)
                partial.replace(self.path)
        return {"validation loss": loss, "validation accuracy": right}

    def state(self) -> dict[str, Tensor]:
        assert self.kept is not None  # the end of a run is always watched
        return dict(self.kept["state"])


def state_of(net: nn.Module, bundle: Bundle) -> dict[str, Tensor]:
    """The values of a net in training under the names of its bundle."""
    state = net.state_dict()
    return {name: state[name].detach().clone().contiguous() for name in bundle.params}


def trained(bundle: Bundle, net: nn.Module) -> Bundle:
    """The bundle with the values of its net after a training: 32-bit floats."""
    return bundle.become({name: Dense(values) for name, values in state_of(net, bundle).items()})


def change(before: Bundle, after: Bundle, samples: Samples) -> tuple[Figure, Figure, Figure]:
    """Validation accuracy before and after, and the paired difference on the same samples."""
    answers = [measure.predictions(bundle, samples) for bundle in (before, after)]
    return measure.before_and_after(answers[0], answers[1], samples.labels)


def curve(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """The series as a table with whole epochs."""
    return pd.DataFrame(rows).astype({"epoch": int})


def later(epochs: int) -> Callable[[Mapping[str, float]], dict[str, float]]:
    """For rows of a training that goes on counting the epochs of those before it.

    >>> later(3)({"epoch": 1.0, "loss": 0.5})
    {'epoch': 4.0, 'loss': 0.5}
    """
    return lambda row: {**row, "epoch": row["epoch"] + epochs}
