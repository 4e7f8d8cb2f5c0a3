"""What must be measured gives way to exact answers under a slider, in this process, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from engine.jobs import niceness

Value = TypeVar("Value")

# A thread for each core: a slow figure never keeps all others.
_pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "measuring", niceness.give_way_in_thread)


def done(work: Callable[[], Value]) -> Value:
    """What `work` gives, which asks for nothing of this kind itself; its errors are raised here."""
    return _pool.submit(work).result()
