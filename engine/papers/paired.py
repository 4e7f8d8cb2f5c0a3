"""Compressed models beside the whole one, on the same samples: changes with their paired intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.file import packfile
from engine.memory import remembered
from engine.papers.harness import spread_out
from engine.types import Bundle, Figure


def drawn(data: Data, count: int, seed: int) -> Data:
    """The same data with `count` training samples alone, every class in its share; a seed picks them."""
    return replace(data, train=data.train.stratified(count, seed))


class Paired:
    """The whole model's answers to test samples, also to validation samples if wanted, and other files'."""

    def __init__(self, whole: Bundle, data: Data, validation: bool = False) -> None:
        self._parts = {"test": data.test} | ({"validation": data.validation} if validation else {})
        self._whole = {part: _of_whole(whole, samples) for part, samples in self._parts.items()}
        self._answers = dict[str, Mapping[str, Tensor]]()
        self._rows = list[dict[str, Any]]()

    def right(self) -> float:
        """Of the test samples the whole model has right so many, in %."""
        return 100 * measure.accuracy_of(self._whole["test"], self._parts["test"].labels).value

    def add(self, name: str, bundle: Bundle) -> Figure:
        """Write the file of a model, read it back and run it: how its test accuracy differs, a share."""
        again = packfile.unpack(packfile.pack(bundle))
        answers = {part: measure.predictions(again, samples) for part, samples in self._parts.items()}
        changes, self._answers[name] = dict[str, Figure](), answers
        for part, samples in self._parts.items():
            accuracy = measure.accuracy_of(answers[part], samples.labels)
            changes[part] = measure.paired_difference(self._whole[part], answers[part], samples.labels)
            row = {"model": name, "part": part}
            self._rows.append(row | spread_out("accuracy", accuracy) | spread_out("change", changes[part]))
        return changes["test"]

    def gain(self, before: str, after: str) -> Figure:
        """How the test accuracies of two models that were added differ, a share."""
        answers = [self._answers[name]["test"] for name in (before, after)]
        return measure.paired_difference(answers[0], answers[1], self._parts["test"].labels)

    def table(self) -> pd.DataFrame:
        """A row for each model and part: accuracy and change, shares, with their 95 % intervals."""
        return pd.DataFrame(self._rows)


@remembered  # each seed asks for them
def _of_whole(bundle: Bundle, samples: Samples) -> Tensor:
    return measure.predictions(bundle, samples)


def least(change: Figure) -> float:
    """The lower end of a change's interval, in points."""
    assert change.spread is not None
    return 100 * change.spread[0]
