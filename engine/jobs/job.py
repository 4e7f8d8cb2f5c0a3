"""A job as pages see it: a snapshot that is never changed, and its row in the database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

OPEN = ("waiting", "running")
STOPPED = ("paused", "cancelled", "replaced", "interrupted", "failed")  # and can be resumed
UNASKED = (
    "curve",
    "point",
)  # kinds that nobody pressed a button for: they wait for all others, and give way to them
STATES = (*OPEN, *STOPPED, "done")
GONE = "the server stopped before it was done"
AGAIN = "the server stopped, and it goes on by itself"  # said of an open job
TWICE = "the server was ended twice while this was at work, which may be the reason: it waits for you"


@dataclass(frozen=True)
class Job:
    """A snapshot of one job. `remaining` is in seconds, None while nothing can be said.

    `error` is the sentence of a failed or interrupted job; `series` are the rows so far, and
    they stay when a job is stopped. `created` and `updated` are seconds since 1970.
    """

    id: str
    owner: str
    kind: str
    title: str
    payload: Mapping[str, Any]
    state: str = "waiting"
    progress: float = 0.0
    series: tuple[Mapping[str, Any], ...] = ()
    result: Mapping[str, Any] | None = None
    error: str = ""
    remaining: float | None = None
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)

    @property
    def open(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in OPEN

    @property
    def unasked(self) -> bool:
        """Whether it waits for all other jobs."""
        return self.kind in UNASKED

    @property
    def work(self) -> tuple[str, str, Mapping[str, Any]]:
        """What is done for whom."""
        return self.owner, self.kind, self.payload

    @property
    def task(self) -> dict[str, Any]:
        """What a worker is told."""
        return {"kind": self.kind, "payload": dict(self.payload)}

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it unasked: it is neither open nor paused."""
        return not self.open and self.state != "paused"


def row_of(job: Job, manager: str) -> dict[str, Any]:
    """The job as a row of the database, with who runs it."""
    names = ("id", "owner", "kind", "title", "state", "progress", "error", "created", "updated")
    row = {name: getattr(job, name) for name in names}
    row |= {"payload": dict(job.payload), "series": [dict(r) for r in job.series], "manager": manager}
    return row | {"result": None if job.result is None else dict(job.result)}


def job_of(row: Mapping[str, Any]) -> Job:
    """The job that `row_of` was made from."""
    fields = {name: value for name, value in row.items() if name != "manager"}
    return Job(**{**fields, "series": tuple(row["series"]), "payload": MappingProxyType(row["payload"])})


def ending(last: Mapping[str, Any], code: int, wish: str) -> dict[str, Any]:
    """What becomes of a job that was asked to end in `wish`, whose process said `last` and ended with `code`.

    >>> ending({}, -9, "")
    {'state': 'interrupted', 'error': 'its process was ended by signal 9'}
    """
    if "result" in last:
        result = MappingProxyType(last["result"])
        return {"state": "done", "progress": 1.0, "result": result, "error": ""}
    if "failed" in last:
        return {"state": "failed", "error": last["failed"]}
    if wish == "interrupted":
        return {"state": "interrupted", "error": GONE}
    if wish:
        return {"state": wish, "error": ""}
    if code < 0:
        return {"state": "interrupted", "error": f"its process was ended by signal {-code}"}
    return {"state": "failed", "error": f"its process ended with code {code}; the server's log says why"}
