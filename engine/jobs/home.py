"""The home folder, where jobs, results and uploads lie: whether it can be written, in a sentence.

Nothing here knows what is kept there (`engine.jobs.store`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sql

from engine.data.sets import cache_folder
from engine.types import SlimscopeError

ROOM = 65_536  # bytes that must find room


class HomeError(SlimscopeError):
    """The home folder is full, read-only or not a folder; the text names it."""


@contextmanager
def said() -> Iterator[None]:
    """Failures to read or write the home folder become a HomeError."""
    try:
        yield
    except (OSError, sql.exc.OperationalError) as error:
        why = error.strerror if isinstance(error, OSError) else error.orig
        raise HomeError(
            f"the home folder {cache_folder().absolute()} can't be used ({why or error}): make room, allow "
            "writing, or name another folder in SLIMSCOPE_HOME"
        ) from error


def check() -> None:
    """Raise HomeError where the home folder, made where it is missing, has no place for a small file."""
    folder = cache_folder()
    with said():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(ROOM))


def problem() -> str:
    """What `check` says; empty where nothing is wrong.

    >>> problem()
    ''
    """
    try:
        check()
    except HomeError as error:
        return str(error)
    return ""
