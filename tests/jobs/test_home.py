"""A home folder that is full, read-only or no folder is said in a sentence; what is in it stays."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sql
import torch

from engine import cli
from engine.jobs import database, home, models, store
from engine.jobs.manager import Manager
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle
from pages.parts import serve

T = TypeVar("T")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that can't be made, not even by root."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "file" / "home"))
    return tmp_path / "file" / "home"


def no_room(code: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.fixture
def full_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SQLite itself says that the disk is full from here on: no page can be added."""
    store.put("kept", 1)
    database._close()

    def no_more(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # at least as many as there are

    sql.event.listen(sql.Engine, "connect", no_more)
    yield
    sql.event.remove(sql.Engine, "connect", no_more)
    database._close()


def bundle(seed: int) -> Bundle:
    generator = torch.Generator().manual_seed(seed)
    return Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(9, 7, generator=generator))})


def test_a_good_home_is_made_and_left_as_it_was(folder: Path) -> None:
    assert home.problem() == ""
    assert list(folder.iterdir()) == []


def test_a_home_below_a_file_is_named_by_the_command_the_server_and_the_store(
    below_a_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"{below_a_file} can't be used (Not a directory)"
    with pytest.raises(SystemExit):
        cli.main(["app"])
    assert said in capsys.readouterr().err
    for touch in (lambda: store.get("x"), lambda: models.put_bundle("x", bundle(0)), Manager):
        with pytest.raises(home.HomeError, match="can't be used"):
            touch()


def in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """What it returns; the main thread may have a browser's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_the_server_is_not_ready_while_nothing_can_be_kept(
    code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", no_room(code))
        answer = in_a_thread(serve.ready(None))  # type: ignore[arg-type]
    assert answer.status_code == 503
    assert str(folder).encode() in bytes(answer.body)
    again = in_a_thread(serve.ready(None))  # type: ignore[arg-type]
    assert (again.status_code, bytes(again.body)) == (200, b"ready")


def test_the_server_says_it_at_its_start_and_goes_on(
    below_a_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.gc, "freeze", lambda: None)
    monkeypatch.setattr(serve.sys, "setswitchinterval", lambda _: None)

    async def begin() -> bool:
        async with serve.lifespan(None):
            return True

    assert in_a_thread(begin())
    assert f"slimscope: the home folder {below_a_file} can't be used" in capfd.readouterr().err


def test_a_net_that_finds_no_room_leaves_those_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.put_model(bundle(1))

    def half(path: Path, to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", half)
        with pytest.raises(home.HomeError, match="No space left on device"):
            models.put_model(bundle(2))
    assert [path.name for path in (folder / "nets").iterdir()] == [f"{first}.slim"]
    assert models.get_model(first).fingerprint == bundle(1).fingerprint


def test_a_full_database_keeps_what_it_has(folder: Path, full_database: None) -> None:
    with pytest.raises(home.HomeError, match=r"can't be used \(database or disk is full\)"):
        store.put("large", "x" * 100_000)
    assert store.get("kept") == 1
    store.put("kept", 2)  # it fits where it was
    assert store.get("kept") == 2


def test_a_job_is_not_taken_where_it_can_not_be_kept(folder: Path, full_database: None) -> None:
    manager = Manager(limit=1)
    with pytest.raises(home.HomeError):
        manager.submit("ann", "count", {"text": "x" * 100_000}, "too much")
    assert manager.list("ann") == ()
    manager.close()


def test_a_job_ends_although_its_end_can_not_be_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(limit=1)
    monkeypatch.setattr(manager, "_start_waiting", lambda: None)
    job_id = manager.submit("ann", "count", {}, "waits")
    with monkeypatch.context() as patch:
        patch.setattr(store, "put_job", no_room_at_home)
        manager.cancel("ann", job_id)
    assert manager.get("ann", job_id).state == "cancelled"
    manager.close()


def no_room_at_home(*_: Any) -> None:
    raise home.HomeError("full")
