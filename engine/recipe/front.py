"""Which of many measured recipes to take: the one to recommend within a budget, and the runner-up.

Pure: a row is one of a sweep with the name of its `technique` beside `bytes`, `accuracy`, `n` and the paired
`change` to the original with its interval. All rows are measured on the same samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.recipe import sweep
from engine.types import SlimscopeError

SETTLES = 1000  # samples: with fewer, a change that can't be told from none may still be a large one

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Budget:
    """At most `most` bytes of file, or at most `most` of accuracy `lost`, as a share. Raises SlimscopeError.

    >>> Budget("lost", 0.01).allows({"bytes": 100, "change": -0.01})
    True
    >>> Budget("bytes", 99).allows({"bytes": 100, "change": 0.0})
    False
    """

    kind: Literal["bytes", "lost"]
    most: float

    def __post_init__(self) -> None:
        if self.kind not in ("bytes", "lost"):
            raise SlimscopeError(f"budget kind is {self.kind!r}: allowed are 'bytes' and 'lost'")
        if not self.most >= 0:
            raise SlimscopeError(f"budget is {self.most!r}: allowed is a number from 0")

    def allows(self, row: Row) -> bool:
        """Whether a row keeps to it; a loss is rounded, so that 0.7 points allow 35 of 5,000 samples."""
        if self.kind == "bytes":
            return bool(row["bytes"] <= self.most)
        return bool(round(-row["change"], 9) <= round(self.most, 9))


@dataclass(frozen=True)
class Advice:
    """The row to take, the best one of another technique (None where nothing else fits), and the reason.

    The reason is `small`: the smallest file in the budget; `tie`: the smallest file whose accuracy the sample
    can't tell from the original's; `accurate`: the most accurate.
    """

    best: Row
    second: Row | None
    reason: Literal["small", "tie", "accurate"]


def recommended(rows: Iterable[Row], budget: Budget) -> Advice | None:
    """What to take within a budget; None where nothing keeps to it. It is never a dominated row.

    Under a limit on bytes the most accurate row is the best. But where rows can't be told from the original
    (the paired interval of the change holds zero, on SETTLES samples or more), it is the smallest of these.

    >>> rows = [
    ...     {"technique": name, "bytes": size, "accuracy": 0.9 + change, "n": 5000, "change": change,
    ...      "change_low": change - 0.002, "change_high": change + 0.002}
    ...     for name, size, change in (("quantize", 50, -0.001), ("prune", 70, 0.0), ("prune", 20, -0.1))
    ... ]
    >>> advice = recommended(rows, Budget("lost", 0.01))
    >>> advice.best["bytes"], advice.second["bytes"], advice.reason
    (50, 70, 'small')
    >>> recommended(rows, Budget("bytes", 60)).reason, recommended(rows, Budget("bytes", 10))
    ('tie', None)
    """
    allowed = [row for row in rows if row["accuracy"] is not None and budget.allows(row)]
    if not allowed:
        return None
    best, reason = _best(allowed, budget)
    others = [row for row in allowed if row["technique"] != best["technique"]]
    return Advice(best, _best(others, budget)[0] if others else None, reason)


def _best(allowed: Sequence[Row], budget: Budget) -> tuple[Row, Literal["small", "tie", "accurate"]]:
    """Of rows in the budget. Whoever dominates one of them is in the budget, too."""
    is_best = sweep.front([row["bytes"] for row in allowed], [row["accuracy"] for row in allowed])
    front = [row for row, best in zip(allowed, is_best, strict=True) if best]
    if budget.kind == "lost":
        return min(front, key=_size), "small"
    tied = [row for row in front if is_tie(row)]
    if tied:
        return min(tied, key=_size), "tie"
    return max(front, key=lambda row: row["accuracy"]), "accurate"


def _size(row: Row) -> float:
    return float(row["bytes"])


def is_tie(row: Row) -> bool:
    """Whether SETTLES samples or more can't tell it from the original."""
    return bool(row["n"] >= SETTLES and row["change_low"] <= 0 <= row["change_high"])


def distinct(rows: Iterable[Row]) -> list[Row]:
    """One row for each recipe, the first that comes; refused ones are left out.

    >>> distinct([{"recipe": "[]", "accuracy": 0.9}, {"recipe": "[]", "accuracy": 0.8}])
    [{'recipe': '[]', 'accuracy': 0.9}]
    """
    found: dict[str, Row] = {}
    for row in rows:
        if row["accuracy"] is not None:
            found.setdefault(row["recipe"], row)
    return list(found.values())
