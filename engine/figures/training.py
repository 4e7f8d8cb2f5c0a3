"""What techniques that train do alike: train, watch validation, compare before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from torch import nn

from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.net.train import Loss, Plan, Prune, Watch, fit, hard_labels, suited, zero_masks
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
    prune: Prune | None = None,
    watch: Watch | None = None,
) -> list[dict[str, float]]:
    """Train the fork `net` by a plan suited to it, zeros kept, and return the live series.

    Validation accuracy is watched unless `watch` says otherwise. The checkpoint is `name` of `progress`;
    `told` hears of the training, where it is only a share of `progress`.
    """
    return fit(
        net,
        data.train,
        suited(plan, net, data.train),
        loss=loss,
        masks=zero_masks(net),
        prune=prune,
        watch=watch or accuracy_on(data.validation),
        progress=told or progress,
        checkpoint=progress.checkpoint(name),
    )


def accuracy_on(samples: Samples) -> Watch:
    """The watch over accuracy on validation samples."""
    return lambda net: {"validation accuracy": measure.share_right(net, samples)}


def trained(bundle: Bundle, net: nn.Module) -> Bundle:
    """The bundle with the values of its net after a training: 32-bit floats."""
    state = net.state_dict()
    return bundle.become({name: Dense(state[name].detach().contiguous()) for name in bundle.params})


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
