"""What a computation says: a report at its end, and its progress on the way there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from engine.types.figures import Figure, SlimscopeError
from engine.types.recipes import Step


@dataclass(frozen=True)
class Report:
    """What a technique has to say: figures, and tables that the pictures are drawn from."""

    figures: tuple[Figure, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    step: Step | None = None  # set by engine.recipe.run.apply


@dataclass
class Progress:
    """How a long computation talks to whoever waits: it reports, and asks whether to stop.

    `report(fraction, row)` takes the share done (0..1) and, where there is something to
    plot, one row of a live series. `cancelled()` is asked between batches. `folder` is where
    what is half done may lie: nothing else is kept there, and the next attempt gets the same.
    """

    report: Callable[[float, Mapping[str, float] | None], None] = lambda fraction, row: None
    cancelled: Callable[[], bool] = lambda: False
    folder: Path | None = None

    def checkpoint(self, name: str) -> Path | None:
        """The file for the checkpoint of one of the computation's trainings; None: it is not kept."""
        return None if self.folder is None else self.folder / f"{name}.pt"

    def part(
        self,
        low: float,
        high: float,
        told: Callable[[Mapping[str, float]], Mapping[str, float] | None] = lambda row: row,
        folder: Path | None = None,
    ) -> Progress:
        """Progress of what fills the share low..high; `told` says what becomes of its rows."""

        def report(fraction: float, row: Mapping[str, float] | None) -> None:
            self.report(low + (high - low) * fraction, None if row is None else told(row))

        return Progress(report, self.cancelled, folder)

    def __call__(self, fraction: float, row: Mapping[str, float] | None = None) -> None:
        if self.cancelled():
            raise Cancelled("cancelled")
        self.report(fraction, row)


class Cancelled(SlimscopeError):
    """Raised inside a computation that was asked to stop."""
