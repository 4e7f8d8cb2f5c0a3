"""Results on disk, kept so that nothing is computed twice: values, jobs, and nets.

Values and jobs are rows of one SQLite database, nets are `.slim` files beside it, all under
`engine.data.sets.cache_folder()`. Several processes may read and write at once. Nothing here
knows what a value means, how a key is made (`engine.jobs.tasks`) or how a job runs (`engine.jobs.manager`).
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from engine.data.sets import cache_folder
from engine.file import intake, packfile, recognise
from engine.jobs import home
from engine.net import sources, zoo
from engine.recipe import migrate
from engine.types import Basis, Bundle, Figure, Recipe, Report, SlimscopeError, Step

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

NAME = re.compile(r"[0-9a-z][0-9a-z-]{0,99}")
UPLOADED = re.compile(r"file-[0-9a-f]{16}")
MOST_ROWS = {"results": 20_000, "jobs": 5_000}  # what `trim` leaves
MOST_BYTES = 4_000_000_000  # of nets and checkpoints that jobs made


# ---------------------------------------------------------------- the database


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the file `path` alone, and say so; where another has it, wait, or without `wait` say False."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


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
def _connected() -> Iterator[sql.Connection]:
    """A transaction: committed whole when the block ends, or not at all. Raises HomeError."""
    with home.said(), database().begin() as connection:
        yield connection


def _upsert(table: sql.Table, row: Mapping[str, Any]) -> None:
    key = next(iter(table.primary_key.columns))
    statement = insert(table).values(**row)
    statement = statement.on_conflict_do_update(index_elements=[key], set_=dict(row))
    with _connected() as connection:
        connection.execute(statement)


# ---------------------------------------------------------------- values


def put(key: str, value: Any) -> None:
    """Keep JSON-ready data under `key`; what was there before is replaced."""
    _upsert(RESULTS, {"key": key, "value": value, "created": time.time()})


def get(key: str) -> Any | None:
    """The data kept under `key`, or None."""
    with _connected() as connection:
        return connection.scalar(sql.select(RESULTS.c.value).where(RESULTS.c.key == key))


def drop(key: str) -> None:
    """Forget what is kept under `key`, value and net."""
    with _connected() as connection:
        connection.execute(sql.delete(RESULTS).where(RESULTS.c.key == key))
    net_path(key).unlink(missing_ok=True)


# ---------------------------------------------------------------- jobs


def put_job(row: Mapping[str, Any]) -> None:
    """Keep one job, given as a row with a value for every column of JOBS."""
    _upsert(JOBS, row)


def drop_job(job_id: str) -> None:
    """Forget one job."""
    with _connected() as connection:
        connection.execute(sql.delete(JOBS).where(JOBS.c.id == job_id))


def jobs(limit: int = 500) -> list[dict[str, Any]]:
    """The newest `limit` jobs of every owner, oldest first."""
    newest = sql.select(JOBS).order_by(JOBS.c.created.desc()).limit(limit)
    with _connected() as connection:
        rows = connection.execute(newest).mappings().all()
    return [dict(row) for row in reversed(rows)]


# ---------------------------------------------------------------- nets


def net_path(key: str) -> Path:
    """Where the net of this key is, or would be."""
    if not NAME.fullmatch(key):
        raise SlimscopeError(f"key {key!r} is not a name: allowed are digits, a to z and -, at most 100")
    return cache_folder() / "nets" / f"{key}.slim"


def put_bundle(key: str, bundle: Bundle) -> Path:
    """Write a net as `<key>.slim`, whole or not at all, and say where. Origin and lineage are not in it.

    Raises HomeError where it finds no room.
    """
    path, content = net_path(key), packfile.pack(bundle)
    with home.said():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{key[:40]}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    return path


def get_bundle(key: str) -> Bundle | None:
    """The net kept under `key`, or None. Raises SlimscopeError where its file is damaged."""
    path = net_path(key)
    try:
        content = path.read_bytes()
        os.utime(path)  # the order in which `trim` deletes
    except FileNotFoundError:
        return None
    try:
        return packfile.unpack(content)
    except SlimscopeError as error:
        raise SlimscopeError(f"{path} is damaged ({error}): delete it, and it is made again") from error


def put_model(bundle: Bundle) -> str:
    """Keep an uploaded net; the id it answers with is `file-` and the net's fingerprint."""
    model_id = f"file-{bundle.fingerprint}"
    put_bundle(model_id, bundle)
    return model_id


def put_path(bundle: Bundle, path: Path) -> str:
    """Remember where the file of a net lies; the id it answers with is that of `put_model`."""
    model_id, facts = f"file-{bundle.fingerprint}", path.stat()
    put(f"files-at-{model_id}", [str(path.absolute()), facts.st_size, facts.st_mtime_ns])
    return model_id


def _at_path(model_id: str) -> Bundle | None:
    """The net whose file was named by `put_path` and is still the same."""
    path, size, time_ns = get(f"files-at-{model_id}") or ("", 0, 0)
    with suppress(OSError):
        facts = Path(path).stat()
        if (facts.st_size, facts.st_mtime_ns) == (size, time_ns):
            return intake.open_file(Path(path), size)[0]
    return None


def get_model(model_id: str, data: str | None = None) -> Bundle:
    """The net of a model id: a name in the zoo, or what `put_model` or `put_path` answered.

    A file is what `data` says that its visitor said of it: bare weights where that is empty, else the net
    that it looks like. None: as it was kept.
    Raises SlimscopeError where there is none, so that a link can ask for the file.
    """
    if model_id.startswith("user-"):
        return _users(model_id)
    if not model_id.startswith("file-"):
        return zoo.load(model_id)
    known = UPLOADED.fullmatch(model_id) is not None
    bundle = (get_bundle(model_id) or _at_path(model_id)) if known else None
    if bundle is None:
        raise SlimscopeError(f"model {model_id!r} is not here: open the file with that fingerprint again")
    if data is None:
        return bundle
    taken_for = recognise.OWN if data.startswith(f"{recognise.OWN}:") else ""
    return recognise.take(bundle, taken_for) if data else recognise.bare(bundle)


def drop_model(model_id: str) -> None:
    """Delete an uploaded net that no visitor has in his list any more."""
    if not UPLOADED.fullmatch(model_id):
        raise SlimscopeError(f"model {model_id!r} is not an upload: only those are deleted")
    lists = sql.select(RESULTS.c.value).where(RESULTS.c.key.startswith("files-", autoescape=True))
    with database().connect() as connection:
        if any(isinstance(value, dict) and model_id in value for (value,) in connection.execute(lists)):
            return
    net_path(model_id).unlink(missing_ok=True)


def _users(model_id: str) -> Bundle:
    """The net of the code that was named at the start, where it is still the one with this fingerprint."""
    for load in (sources.load_user, sources.reload_user):
        bundle = load()
        if model_id == f"user-{bundle.fingerprint}":
            return bundle
    raise SlimscopeError(f"model {model_id!r} is not what {bundle.arch.title} gives now: it was edited since")


# ---------------------------------------------------------------- what is half done, and what is too much


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
        with _connected() as connection:
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


# ---------------------------------------------------------------- reports as JSON


def table_data(table: pd.DataFrame) -> dict[str, Any]:
    """A table as JSON-ready data: column names, their types, and rows; the index is not kept."""
    cells = json.loads(json.dumps([list(row) for row in table.itertuples(index=False)], default=_plain))
    types = [str(kind) for kind in table.dtypes]
    return {"columns": [str(name) for name in table.columns], "types": types, "rows": cells}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)  # numpy scalars and arrays


def table_of(data: Mapping[str, Any]) -> pd.DataFrame:
    """The table that `table_data` was made from."""
    table = pd.DataFrame(data["rows"], columns=data["columns"])
    return table.astype(dict(zip(data["columns"], data["types"], strict=True)))


def figure_of(data: Mapping[str, Any]) -> Figure:
    """The figure that `Figure.to_dict` was made from.

    >>> figure = Figure("size", 12, "B", Basis.MEASURED, "written", (12, 12))
    >>> figure_of(figure.to_dict()) == figure
    True
    """
    spread = None if data["spread"] is None else (data["spread"][0], data["spread"][1])
    basis = Basis(data["basis"])
    return Figure(data["name"], data["value"], data["unit"], basis, data["how"], spread)


def report_data(report: Report) -> dict[str, Any]:
    """A report as JSON-ready data."""
    return {
        "figures": [figure.to_dict() for figure in report.figures],
        "tables": {name: table_data(table) for name, table in report.tables.items()},
        "notes": list(report.notes),
        "step": None if report.step is None else report.step.data,
    }


def report_of(data: Mapping[str, Any]) -> Report:
    """The report that `report_data` was made from."""
    return Report(
        tuple(figure_of(figure) for figure in data["figures"]),
        {name: table_of(table) for name, table in data["tables"].items()},
        tuple(data["notes"]),
        _step_of(data["step"]),
    )


def _step_of(data: Any) -> Step | None:
    return None if data is None else migrate.current(Recipe((Step(*data),))).steps[0]
