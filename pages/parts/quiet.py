"""What must be measured gives way to exact answers under a slider, in this process, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from engine.jobs import niceness

Value = TypeVar("Value")

# More than may be asked for at /live/measured at a time: runs of pages measure here as well.
_pool = ThreadPoolExecutor(2 * max(2, os.cpu_count() or 1), "measuring", niceness.give_way_in_thread)


def done(work: Callable[[], Value]) -> Value:
    """What `work` gives; its errors are raised here. It must not call `done`: it could wait for itself."""
    return _pool.submit(work).result()
