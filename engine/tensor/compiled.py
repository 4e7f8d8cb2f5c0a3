"""Inner loops compiled to machine code on their first call, and kept on disk where a folder allows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, **how: Any) -> Function:
    """The function as machine code; one of a coder may use whole numbers and arrays of them only.

    The code is kept beside the source, else in the user's cache folder, else in slimscope's own folder,
    else in memory alone.
    """
    for make in (_kept, _kept_at_home):
        try:
            return cast(Function, make(function, **how))
        except RuntimeError:  # no such folder can be written
            continue
    return cast(Function, numba.njit(nogil=True, error_model="numpy", **how)(function))


def compiled_in_any_order(function: Function) -> Function:
    """As `compiled`, and sums of floats may be added up in any order, the same one each time."""
    return compiled(function, fastmath={"reassoc", "nsz"})


def inlined(function: Function) -> Function:
    """As `compiled`, put into each place that calls it: a call would pass every array in seven parts."""
    return cast(Function, numba.njit(forceinline=True, nogil=True, error_model="numpy")(function))


def _kept(function: Function, **how: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy", **how)(function)


def _kept_at_home(function: Function, **how: Any) -> Any:
    """Raises RuntimeError where $SLIMSCOPE_HOME is not told, or can't be written."""
    home, settings = os.environ.get("SLIMSCOPE_HOME"), cast(Any, numba.config)
    if not home:
        raise RuntimeError("no folder of its own")
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(Path(home) / "compiled")
    try:
        return _kept(function, **how)
    except OSError as error:
        raise RuntimeError(str(error)) from None
    finally:
        settings.CACHE_DIR = before
