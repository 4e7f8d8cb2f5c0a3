"""What the engine remembers between two moves of a slider: one store with one limit in bytes.

A result is kept under the function that made it and its arguments; what was asked for longest ago
goes first. It is made once, however many threads ask. Nothing here knows what a result means.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

Given = ParamSpec("Given")
Result = TypeVar("Result")

LIMIT = int(os.environ.get("SLIMSCOPE_MEMORY", 400_000_000))  # bytes of all results together
LEAST = 1_000  # bytes that any result counts, so that small ones have a bound, too
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
MAPPED = 65_536  # blocks that it maps at most, by itself
LARGE_BLOCK = 9_000_000  # bytes: a move looks at 2^20 weights at most, 8.4 MB in 64 bits


@dataclass
class _Entry:
    made: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    bytes: int = 0
    error: BaseException | None = None


class Memory:
    """Results by key, at most `limit` bytes of them; every method may be called from any thread."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.bytes = 0
        self._lock = threading.RLock()  # a weight that is let go forgets its result, at any moment
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is kept under the key, or what `make` gives: one thread makes it, others wait for it."""
        with self._lock:
            entry = self._entries.get(key)
            mine = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry()
            self._entries.move_to_end(key)
        if mine:
            self._make(key, entry, make)
        entry.made.wait()
        if entry.error is not None:
            raise entry.error
        return entry.value

    def _make(self, key: Hashable, entry: _Entry, make: Callable[[], Any]) -> None:
        try:
            entry.value = make()
            entry.bytes = max(size_of(entry.value), LEAST)
        except BaseException as error:
            entry.error = error
        with self._lock:
            if entry.error is None and self._entries.get(key) is entry:
                self.bytes += entry.bytes
                self._shrink()
            elif self._entries.get(key) is entry:
                del self._entries[key]
        entry.made.set()

    def _shrink(self) -> None:
        if self.bytes <= self.limit:
            return
        for key in list(self._entries):
            if self.bytes <= self.limit:
                return
            entry = self._entries.get(key)
            if entry is not None and entry.bytes:  # not one that is still being made
                self.forget(key)

    def forget(self, key: Hashable) -> None:
        """Drop one result, where it is kept."""
        with self._lock:
            entry = self._entries.pop(key, None)
            self.bytes -= entry.bytes if entry else 0

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)


MEMORY = Memory()


def remembered(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorate a pure function whose arguments can be hashed, so that the same call is answered at once.

    What it returns must not be changed by anybody.

    >>> calls = []
    >>> double = remembered(lambda x: calls.append(x) or 2 * x)
    >>> double(3), double(3), calls
    (6, 6, [3])
    """

    @functools.wraps(function)
    def ask(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        key = (function, args, tuple(sorted(kwargs.items())))
        answer: Result = MEMORY.get(key, lambda: function(*args, **kwargs))
        return answer

    return ask


def remembered_of(weight: Tensor, what: str, make: Callable[[], Result]) -> Result:
    """What `make` gives of a weight, remembered as long as there is this version of the weight."""

    def made() -> Result:
        weakref.finalize(weight, MEMORY.forget, key)
        return make()

    key = (remembered_of, id(weight), weight._version, what)
    found: Result = MEMORY.get(key, made)
    return found


def hold_little() -> None:
    """Let the allocator keep little of what is free: no block that is larger than a move of a slider takes.

    By itself glibc keeps blocks of up to 32 MB once one was freed, with holes between what is in use.
    """
    if (libc := _libc()) is not None and hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        libc.mallopt(M_TRIM_THRESHOLD, 4 * LARGE_BLOCK)


@contextmanager
def held() -> Iterator[None]:
    """Keep what is freed inside for what comes next, as the batches of a training do; then give it back.

    By itself glibc returns large blocks, and the system fills them with zeros when they come again.
    """
    libc = _libc()
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, MAPPED)
        libc.mallopt(M_TRIM_THRESHOLD, 4 * LARGE_BLOCK)
        give_back()


def give_back() -> None:
    """Return free memory that the allocator holds to the system, where it can."""
    if (libc := _libc()) is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def size_of(value: Any) -> int:
    """Bytes of the tensors, arrays, byte strings and tables in a value, each storage once.

    >>> import torch
    >>> size_of({"a": torch.zeros(10), "b": [torch.zeros(2, 2)]})
    56
    """
    sizes: dict[int, int] = {}
    _weigh(value, sizes, set())
    return sum(sizes.values())


def _weigh(value: Any, sizes: dict[int, int], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    match value:
        case Tensor():
            storage = value.untyped_storage()
            sizes[storage._cdata] = 0 if value.is_meta else storage.nbytes()
        case np.ndarray():
            sizes[id(value)] = value.nbytes
        case bytes():
            sizes[id(value)] = len(value)
        case pd.DataFrame():
            sizes[id(value)] = int(value.memory_usage(deep=False).sum())
        case Mapping():
            for part in value.values():
                _weigh(part, sizes, seen)
        case list() | tuple() | set() | frozenset():
            for part in value:
                _weigh(part, sizes, seen)
        case _ if type(value).__module__.startswith(("engine.", "torch.nn", "torch.fx")):
            _weigh(getattr(value, "__dict__", {}), sizes, seen)
