"""Locks on files: they hold between processes, and end with the process that has them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from engine.jobs import home


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


def hold(path: Path) -> IO[str]:
    """Lock `path` as long as this process lives: the sign that its jobs have a manager."""
    with home.said():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def is_held(path: Path) -> bool:
    """Whether a living process holds `path`.

    >>> is_held(Path("nobody/made/this"))
    False
    """
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
