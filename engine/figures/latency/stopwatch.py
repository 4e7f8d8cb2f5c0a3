"""Calls timed in turns on one thread, and two times compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from engine.types import Basis, Figure

WARM_UP = 10
REPEATS = 30  # fewer say little about a median

# Two measurements at once would slow each other down.
ALONE = threading.Lock()


class Pace(StrEnum):
    """How two times compare."""

    FASTER = "faster"
    SLOWER = "slower"
    TIE = "tie"


@dataclass(frozen=True)
class Comparison:
    """Two times in ms and how many times as fast the second is, each with its quartiles."""

    before: Figure
    now: Figure
    ratio: Figure

    @property
    def pace(self) -> Pace:
        """Faster or slower only where neither the quartiles of the times overlap nor the ratio's hold 1."""
        (before_low, before_high), (low, high), (least, most) = map(
            quartiles, (self.before, self.now, self.ratio)
        )
        if high < before_low and least > 1:
            return Pace.FASTER
        return Pace.SLOWER if low > before_high and most < 1 else Pace.TIE


def quartiles(figure: Figure) -> tuple[float, float]:
    """The spread of a figure that has one."""
    assert figure.spread is not None
    return figure.spread


def timed(calls: Sequence[Callable[[], object]], repeats: int) -> Tensor:
    """Nanoseconds (repeats, calls): in each round all are called, in another order.

    Each is called once more just before it is timed: after a variant of the other runtime, or of another
    size, it would find its own code and numbers out of the caches.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = torch.zeros(repeats, len(calls), dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    try:
        for _ in range(WARM_UP):
            for call in calls:
                call()
        for turn in range(repeats):
            for which in torch.randperm(len(calls), generator=rng).tolist():
                calls[which]()
                times[turn, which] = _nanoseconds(calls[which])
    finally:
        torch.set_num_threads(threads)
    return times


def _nanoseconds(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def median(name: str, values: Tensor, unit: str, how: str) -> Figure:
    """The median, with the quartiles as its spread."""
    low, middle, high = (float(v) for v in torch.quantile(values, torch.tensor([0.25, 0.5, 0.75]).double()))
    return Figure(name, middle, unit, Basis.MEASURED, how, (low, high))


def compare(before: Tensor, now: Tensor, how: str) -> Comparison:
    """Times in ms of the same rounds (repeats,); the ratio is taken inside each round.

    >>> slow = torch.tensor([2.0, 4.0, 8.0]).double()
    >>> compare(slow, slow / 2, "by hand").ratio.value
    2.0
    """
    ratio = median("speed-up", before / now, "times", f"time before / time now, in each round; {how}")
    return Comparison(median("latency", before, "ms", how), median("latency", now, "ms", how), ratio)
