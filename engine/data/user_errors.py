"""What a user's own code does wrong, said with its file and line."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.types import SlimscopeError

ENGINE = Path(__file__).resolve().parent.parent


class UserError(SlimscopeError):
    """The user's own code, or what it returned, does not serve; the text has its file and line."""


@contextmanager
def own_errors(what: str) -> Iterator[None]:
    """An error inside becomes a sentence with the user's own file and line."""
    try:
        yield
    except SlimscopeError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's code may raise
        raise UserError(f"{what}: {where(error)}") from error


def where(error: BaseException) -> str:
    """`file:line: Kind: message` of the last line of the user's own code that led to an error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    words = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_own(frame.filename):
            return f"{frame.filename}:{frame.lineno}: {words}"
    return words


def is_own(file: str) -> bool:
    """Whether a file is the user's: neither installed nor slimscope's engine or pages."""
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    if not path.is_file():  # a cell of a notebook has a name, and no file
        return "ipykernel" in file or file.startswith("<ipython")
    others = (ENGINE, ENGINE.parent / "pages", Path(os.__file__).parent)
    return not any(path.resolve().is_relative_to(root) for root in others)
