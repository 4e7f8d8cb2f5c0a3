"""Compressed language models side by side, for reproductions: the perplexity of each file, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import Tensor

from engine.data import sets
from engine.data.sets import Data
from engine.figures import perplexity
from engine.figures.measure import predictions
from engine.file import packfile
from engine.net import zoo
from engine.papers.harness import spread_out
from engine.recipe.run import apply
from engine.types import Bundle, Progress, Step

TEST = "of 32,768 tokens in 256 test windows; of the file, read back; nothing is chosen by it"
PARTS = ("test", "validation")


@dataclass
class Trial:
    """What a model and its compressed copies answer on test and validation, and the rows that tell it."""

    data: Data
    answers: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # model -> part -> answers
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, bundle: Bundle, size: int) -> None:
        """Ask one model; the first that is asked is what the others are compared with."""
        found = {part: predictions(bundle, getattr(self.data, part)) for part in PARTS}
        self.answers[name] = found
        whole = next(iter(self.answers.values()))
        for part, answers in found.items():
            value, change = perplexity.of_answers(answers), perplexity.change(whole[part], answers)
            row = {"model": name, "part": part, "bytes": size}
            self.rows.append(row | spread_out("perplexity", value) | spread_out("change", change))

    @property
    def perplexities(self) -> dict[str, float]:
        """Model -> its perplexity on test."""
        return {name: perplexity.of_answers(found["test"]).value for name, found in self.answers.items()}

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"models": pd.DataFrame(self.rows)}


def compared(net: str, whole: str, steps: Mapping[str, Step], progress: Progress) -> Trial:
    """A net of the zoo under the name `whole`, then what each step makes of it, by its name."""
    bundle, data = zoo.load(net), sets.load(zoo.entry(net).data)
    trial = Trial(data)
    trial.add(whole, bundle, len(packfile.pack(bundle)))
    for number, (name, step) in enumerate(steps.items()):
        content = packfile.pack(apply(bundle, step, data)[0])
        trial.add(name, packfile.unpack(content), len(content))
        progress((number + 1) / len(steps))
    return trial
