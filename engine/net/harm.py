"""How much the loss of a net rises without some of its weights: worked out anew, not estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import incremental
from engine.types import Bundle, weight_layers


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples, the whole net's run over them, and its mean cross-entropy there in nat."""

    samples: Samples
    run: incremental.Trace
    loss: float

    def rise(self, bundle: Bundle) -> float:
        """How much more the loss of a changed net is, worked out anew only behind what changed."""
        answers, _ = incremental.logits(bundle, self.samples, self.run, keep=False)
        return _loss(answers, self.samples.labels) - self.loss

    def __len__(self) -> int:
        return len(self.samples)


@remembered  # a run holds up to 100 MB
def judged(bundle: Bundle, train: Samples, samples: int, seed: int) -> Judged:
    """The net on so many training samples, picked by the seed."""
    train.check_loss()
    chosen = train.stratified(samples, seed)
    answers, run = incremental.logits(bundle, chosen)
    return Judged(chosen, run, _loss(answers, chosen.labels))


def _loss(answers: Tensor, labels: Tensor) -> float:
    # float64: a single weight of many changes the mean in its last digits
    return float(F.cross_entropy(answers.double(), labels))


def without(bundle: Bundle, kept: Mapping[str, Tensor]) -> Bundle:
    """The bundle with zeros where the mask of a layer is False."""
    names = weight_layers(bundle)
    changed = {names[x]: bundle.params[names[x]].masked(mask) for x, mask in kept.items()}
    return bundle.become({**bundle.params, **changed})


def picked(weights: Mapping[str, Tensor], many: int, seed: int) -> list[tuple[str, int]]:
    """At most so many (layer, place in its flat weight), by chance among all weights that are not zero.

    >>> sorted(picked({"fc": torch.tensor([3.0, 0.0, 2.0])}, 5, 0))
    [('fc', 0), ('fc', 2)]
    """
    ends = torch.tensor([w.numel() for w in weights.values()]).cumsum(0)
    alive = torch.cat([w.flatten() != 0 for w in weights.values()]).nonzero().flatten()
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))[:many]
    labels, found = list(weights), []
    for place in alive[order].tolist():
        at = int((ends <= place).sum())
        found.append((labels[at], place - (int(ends[at - 1]) if at else 0)))
    return found
