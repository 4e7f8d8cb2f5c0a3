"""Inner loops compiled to machine code on their first call, and kept on disk where a folder allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code; it may use whole numbers and arrays of them only.

    The code is kept beside the source, else in the user's cache folder, else in memory alone.
    """
    try:
        kept = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder of the two can be written
        kept = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Function, kept)
