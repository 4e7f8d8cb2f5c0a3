"""Results on disk, kept so that nothing is computed twice: values, jobs, and work that is half done.

Values and jobs are rows of `engine.jobs.database`; models are files (`engine.jobs.models`). Nothing here
knows what a value means, how a key is made (`engine.jobs.keys`) or how a job runs (`engine.jobs.manager`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from engine.data.sets import cache_folder
from engine.jobs.database import JOBS, RESULTS, connected, upsert
from engine.jobs.locks import locked

MOST_ROWS = {"results": 20_000, "jobs": 5_000}  # what `trim` leaves
MOST_BYTES = 4_000_000_000  # of models and checkpoints that jobs made


def put(key: str, value: Any) -> None:
    """Keep JSON-ready data under `key`; what was there before is replaced."""
    upsert(RESULTS, {"key": key, "value": value, "created": time.time()})


def get(key: str) -> Any | None:
    """The data kept under `key`, or None."""
    with connected() as connection:
        return connection.scalar(sql.select(RESULTS.c.value).where(RESULTS.c.key == key))


def some(wanted: Iterable[str]) -> dict[str, Any]:
    """What is kept of several keys, by key."""
    chosen = sql.select(RESULTS.c.key, RESULTS.c.value).where(RESULTS.c.key.in_(list(wanted)))
    with connected() as connection:
        return {row.key: row.value for row in connection.execute(chosen)}


def newest(wanted: Iterable[str]) -> str:
    """The day (YYYY-MM-DD, UTC) on which the newest of several keys was kept; empty where none is."""
    latest = sql.select(sql.func.max(RESULTS.c.created)).where(RESULTS.c.key.in_(list(wanted)))
    with connected() as connection:
        created = connection.scalar(latest)
    return "" if created is None else time.strftime("%Y-%m-%d", time.gmtime(created))


def drop(key: str) -> None:
    """Forget what is kept under `key`."""
    with connected() as connection:
        connection.execute(sql.delete(RESULTS).where(RESULTS.c.key == key))


def put_job(row: Mapping[str, Any]) -> None:
    """Keep one job, given as a row with a value for every column of JOBS."""
    upsert(JOBS, row)


def drop_job(job_id: str) -> None:
    """Forget one job."""
    with connected() as connection:
        connection.execute(sql.delete(JOBS).where(JOBS.c.id == job_id))


def jobs(limit: int = 500) -> list[dict[str, Any]]:
    """The newest `limit` jobs of every owner, oldest first."""
    newest = sql.select(JOBS).order_by(JOBS.c.created.desc()).limit(limit)
    with connected() as connection:
        rows = connection.execute(newest).mappings().all()
    return [dict(row) for row in reversed(rows)]


@contextmanager
def claimed(key: str, wait: bool = True) -> Iterator[bool]:
    """Whether the work `key` is the caller's alone until the block ends; `wait` until it is.

    It is free again after a process that is killed and after a block that raises.
    """
    sign = cache_folder() / "checkpoints" / f"{key}.lock"
    sign.parent.mkdir(parents=True, exist_ok=True)
    with locked(sign, wait) as mine:
        yield mine
        if mine:  # and the work is done: who waited for this file, or makes it anew, finds the result
            sign.unlink(missing_ok=True)


@contextmanager
def training(key: str) -> Iterator[Path]:
    """The folder for the checkpoints of the training `key`, for one process at a time: others wait.

    It outlives a process that is killed and a block that raises; a block that succeeds ends it.
    """
    with claimed(key):
        folder = cache_folder() / "checkpoints" / key
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def trim(most_bytes: int = MOST_BYTES, most_rows: Mapping[str, int] = MOST_ROWS) -> None:
    """Delete what jobs made, from what was used longest ago, until the bounds hold.

    A result that is missing is computed again. Models that a visitor opened, and the list of
    them, stay, and so does the newest file, however large.
    """
    for table, time_of in ((RESULTS, RESULTS.c.created), (JOBS, JOBS.c.updated)):
        key = next(iter(table.primary_key.columns))
        oldest = sql.select(time_of).order_by(time_of.desc()).offset(most_rows[table.name]).limit(1)
        with connected() as connection:
            last = connection.scalar(oldest)
            if last is not None:
                connection.execute(sql.delete(table).where(time_of <= last, ~key.startswith("files-")))
    folder, used = cache_folder(), 0
    for _, size, path in sorted(_made(folder), reverse=True):
        used += size
        if used > max(most_bytes, size):
            path.unlink(missing_ok=True)


def _made(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, bytes and path of each net and checkpoint that a job made."""
    for path in (*folder.glob("nets/*"), *folder.glob("checkpoints/*/*")):
        if not path.name.lstrip(".").startswith("file-"):
            with suppress(FileNotFoundError):  # another process deletes as well
                facts = path.stat()
                yield facts.st_mtime, facts.st_size, path
