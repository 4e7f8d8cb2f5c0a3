"""What is stored of the story, by name: sizes and test accuracies of every step, and how they add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.jobs import story
from pages.parts import figures
from pages.parts.story.waterfall import Bar, Row

PLAIN = "plain"  # the original as it usually lies on a disk: four bytes a number
SHOWN = {  # the waterfall's step -> the chapter that tells it
    PLAIN: "look",
    "original": "look",
    "pruned": "prune",
    "tuned": "tune",
    "rounded": "quantize",
}


@dataclass(frozen=True)
class Told:
    """The stored story of a model, and the bytes of its original as a plain 32-bit file."""

    stored: Mapping[str, Any]
    plain: int

    def row(self, chapter: str, sparsity: float = story.TUNED) -> Mapping[str, Any]:
        """The row of a step; of pruning, at this share of zeros."""
        return next(
            row
            for row in self.stored["rows"]
            if row["chapter"] == chapter and row.get("sparsity", sparsity) == sparsity
        )

    @property
    def sparsities(self) -> list[float]:
        """The shares of zeros that were measured, in order; none is the original."""
        return [0.0, *sorted(row["sparsity"] for row in self.stored["rows"] if "sparsity" in row)]

    def accuracy(self, chapter: str, sparsity: float = story.TUNED) -> Row:
        """Test accuracy after a step: value, low, high, n."""
        found: Row = self.row(chapter, sparsity)["test"]
        return found

    def along(self) -> list[Row]:
        """Test accuracy at each share of zeros, the original first."""
        rows = [
            self.accuracy("pruned", share) if share else self.accuracy("original")
            for share in self.sparsities
        ]
        return [{**row, "sparsity": share} for row, share in zip(rows, self.sparsities, strict=True)]

    def along_until(self, sparsity: float, points: int = 4) -> list[Row]:
        """The last points up to a share of zeros."""
        return [row for row in self.along() if row["sparsity"] <= sparsity][-points:]

    @property
    def steps(self) -> list[tuple[str, int]]:
        """The steps of the waterfall and the bytes of the file after each."""
        return [(PLAIN, self.plain), *story.steps(self.stored)]

    def size(self, step: str) -> int:
        """Bytes of the file after a step of the waterfall."""
        return dict(self.steps)[step]

    def words(self, step: str) -> str:
        """The same as people read it."""
        return figures.text(self.size(step), "B")

    @property
    def last(self) -> int:
        """Bytes of the last file."""
        return self.steps[-1][1]

    @property
    def times(self) -> float:
        """How many times smaller the last file is than the plain original."""
        return self.plain / self.last

    @property
    def goal(self) -> int:
        """The same, rounded down to tens: what the story sets out for."""
        return int(self.times) // 10 * 10 or int(self.times)

    def bars(self, names: Mapping[str, str]) -> list[Bar]:
        """The waterfall: each step's name, what it adds, and the accuracy after it."""
        of_plain = {PLAIN: self.accuracy("original")}
        return [
            Bar(step, names[step], change, of_plain.get(step) or self.accuracy(step))
            for step, change in story.waterfall(self.steps)
        ]


def percent(row: Row) -> str:
    """An accuracy in per cent."""
    return figures.text(row["value"], "share")


def interval(row: Row) -> str:
    """Its 95 % interval, and on how many images."""
    return f"{100 * row['low']:.2f} to {100 * row['high']:.2f}, n = {row['n']:,}"
