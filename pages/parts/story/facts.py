"""What the chapters say in numbers: the stored story, and what is read off the model before and after each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.figures import count
from engine.jobs import story
from engine.net import zoo
from engine.types import Bundle
from pages.parts import cached
from pages.parts.story import record
from pages.parts.story.record import Record
from pages.parts.story.told import Told

MODEL = "lenet-300-100"  # the story is told on it


@dataclass(frozen=True)
class Facts:
    """The story of a model, and where its weights are."""

    told: Told
    subject: str
    record: Record

    def weights(self) -> Tensor:
        """All weights of the original, flat."""
        return torch.cat([weight.flatten() for _, weight in count.weights(cached.original(self.subject))])

    def threshold(self) -> float:
        """The largest weight that pruning takes."""
        report = cached.after(self.subject, story.pruned(story.TUNED).key)[1][-1]
        return float(report.tables["layers"]["threshold"].max())

    def neuron(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The weights that are left of the neuron that has most of them, before and after rounding."""
        before, after = (self._first(recipe.key) for recipe in (story.tuned(), story.rounded()))
        row = int(before.count_nonzero(1).argmax())
        left = before[row] != 0
        return before[row][left].numpy(), after[row][left].numpy()

    def _first(self, key: str) -> Tensor:
        bundle: Bundle = cached.after(self.subject, key)[0]
        return max((weight for _, weight in count.weights(bundle)), key=Tensor.numel)


def find(subject: str) -> Facts | None:
    """The facts of a model's story and its record; None where one of them is not stored."""
    model = cached.parts(subject)[0]
    stored = story.stored(model) if model.replace("-", "").isalnum() else None
    plain = 0 if stored is None else int(cached.dense_bytes(subject).value)
    smallest = record.find(model, plain)
    return None if stored is None or smallest is None else Facts(Told(stored, plain), subject, smallest)


def warm_up() -> None:
    """Work out what the chapters show beyond the stored numbers, before someone comes to them."""
    found = find(cached.subject(MODEL, zoo.entry(MODEL).data))
    if found is not None:
        found.threshold()
        found.neuron()
