"""The SQLite database of the home folder: its tables, and one open engine for each process.

Several processes may read and write at once.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from engine.data.sets import cache_folder
from engine.jobs import home
from engine.jobs.locks import locked

TABLES = sql.MetaData()

RESULTS = sql.Table(
    "results",
    TABLES,
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("value", sql.JSON, nullable=False),
    sql.Column("created", sql.Float, nullable=False, index=True),
)

JOBS = sql.Table(
    "jobs",
    TABLES,
    sql.Column("id", sql.Text, primary_key=True),
    sql.Column("owner", sql.Text, nullable=False, index=True),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("title", sql.Text, nullable=False),
    sql.Column("payload", sql.JSON, nullable=False),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("progress", sql.Float, nullable=False),
    sql.Column("series", sql.JSON, nullable=False),
    sql.Column("result", sql.JSON, nullable=False),
    sql.Column("error", sql.Text, nullable=False),
    sql.Column("manager", sql.Text, nullable=False),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("updated", sql.Float, nullable=False, index=True),
)

_opening = threading.Lock()
_open: dict[tuple[Path, int], sql.Engine] = {}  # at most one: the database that was asked for last


def _close() -> None:
    while _open:
        _open.popitem()[1].dispose()


def _forked() -> None:
    global _opening
    _opening = threading.Lock()  # a thread that is not here may hold the parent's
    while _open:
        _open.popitem()[1].dispose(close=False)  # closing would take the parent's locks away


atexit.register(_close)
os.register_at_fork(after_in_child=_forked)


def _is_there(path: Path) -> bool:
    """Whether the open database is the file `path` of this moment, and not one that was deleted."""
    try:
        # While a connection holds a file open, no other gets its number.
        return (path, path.stat().st_ino) in _open
    except FileNotFoundError:
        return False


def database() -> sql.Engine:
    """The database of this moment's cache folder, made where it is missing. Its connections stay open."""
    path = cache_folder().absolute() / "results.sqlite"
    with _opening:
        if not _is_there(path):
            _close()
            engine = _made_database(path)
            _open[path, path.stat().st_ino] = engine
        return next(iter(_open.values()))


def _made_database(path: Path) -> sql.Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    address = sql.URL.create("sqlite", database=str(path))
    # A connection serves one thread at a time and then the next; those beyond the pool's size are closed.
    options: dict[str, Any] = {"pool_size": 4, "max_overflow": -1, "pool_use_lifo": True}
    engine = sql.create_engine(address, connect_args={"timeout": 30}, **options)
    sql.event.listen(engine, "connect", _set_up)
    # Switching to WAL does not wait for other processes, so only one may try at a time.
    with locked(path.with_name("results.lock")), engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        for table in TABLES.sorted_tables:
            connection.execute(sql.schema.CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(sql.schema.CreateIndex(index, if_not_exists=True))
    return engine


def _set_up(connection: sqlite3.Connection, _: object) -> None:
    # A commit outlives any process that is killed. Should the whole machine stop, the last commits
    # may be missing, never the file be damaged: what is lost is computed again.
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def connected() -> Iterator[sql.Connection]:
    """A transaction: committed whole when the block ends, or not at all. Raises HomeError."""
    with home.said(), database().begin() as connection:
        yield connection


def upsert(table: sql.Table, row: Mapping[str, Any]) -> None:
    """Write a row; one with the same primary key is replaced."""
    key = next(iter(table.primary_key.columns))
    statement = insert(table).values(**row)
    statement = statement.on_conflict_do_update(index_elements=[key], set_=dict(row))
    with connected() as connection:
        connection.execute(statement)
