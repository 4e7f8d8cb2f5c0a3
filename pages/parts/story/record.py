"""The last chapter's numbers: the record of a model, step by step, and the files of others beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.figures import measure
from engine.papers import han, harness, ingredients, record, record_curve
from engine.papers.han_deep import RATIO
from pages.parts.story.told import PLAIN
from pages.parts.story.waterfall import Bar, Row

SEED = 0  # whose file is stored


@dataclass(frozen=True)
class Record:
    """The stored file of a record, and the bytes of the original as a plain file.

    `figures` are those of the file's seed, `made` that seed with every choice of ingredients, `curve` bytes and
    errors in per cent along the setting.
    """

    figures: Mapping[str, float]
    plain: int
    made: Mapping[str, Any]
    curve: Sequence[tuple[int, float]]

    @property
    def size(self) -> int:
        return int(self.figures[record.BYTES])

    @property
    def times(self) -> float:
        """How many times smaller the file is than the plain original."""
        return self.figures[RATIO]

    @property
    def error(self) -> float:
        """Wrong answers to the test images, in per cent."""
        return self.figures[han.AFTER]

    @property
    def others(self) -> list[tuple[str, int, float]]:
        """Whose, bytes, test error in per cent."""
        return [(whose, size, error) for whose, size, _, error in record.OTHERS[ingredients.NET]]

    def files(self, chosen: Collection[str]) -> Sequence[Mapping[str, Any]]:
        """The file of each step, with these ingredients alone."""
        return ingredients.files(self.made, chosen)

    def bars(self, chosen: Collection[str] = ingredients.OWN) -> list[Bar]:
        """The waterfall: what each step adds to the bytes, and the accuracy after it."""
        steps = self.files(chosen)
        rows = [{**steps[0], "step": PLAIN, "bytes": self.plain}, *steps]
        names = ["Original, 32 bits each", "Coded, nothing lost", *(row["step"] for row in steps[1:])]
        changes = record.waterfall(rows)
        return [
            Bar(f"record-{n}", name, change, accuracy(row["test error %"]))
            for n, (name, row, (_, change)) in enumerate(zip(names, rows, changes, strict=True))
        ]


def accuracy(error: float, n: int = 10_000) -> Row:
    """An accuracy with its interval, from the share of wrong answers to n images in per cent.

    >>> {name: round(value, 4) for name, value in accuracy(1.5).items()}
    {'value': 0.985, 'low': 0.9824, 'high': 0.9872, 'n': 10000}
    """
    right = round(n * (1 - error / 100))
    low, high = measure.wilson(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}


def find(model: str, plain: int) -> Record | None:
    """The record of a model; None where none is stored, or nothing of its ingredients and its curve."""
    papers = (record.LENET_300_100, ingredients.INGREDIENTS, record_curve.CURVE)
    seeds = [harness.results(paper).get(SEED) for paper in papers]
    if model != ingredients.NET or None in seeds:
        return None
    found, made, along = seeds
    curve = [(row["bytes"], row["test error %"]) for row in along["tables"]["curve"]]
    return Record(found["figures"], plain, made, curve)
