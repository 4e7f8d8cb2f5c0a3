"""What a coder is: how it would write a stream, and how it reads one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.tensor.codes.bits import Ints
from engine.tensor.codes.counts import Counted

Option = tuple[float, str, Callable[[], bytes]]  # bytes that it takes at least, coder, how to make it


@dataclass(frozen=True)
class Coder:
    """One way to write whole numbers as bytes; its name is its id in packed files, for good.

    `options` are the ways in which it would write a stream, none where it does not suit; `decode` gives
    `count` symbols, (count,) int64, and raises CodeError for damaged bytes. One that is not offered writes
    only where it is asked for by name.
    """

    name: str
    options: Callable[[Counted], list[Option]]
    decode: Callable[[bytes, int], Ints]
    is_offered: bool = True


def shortest(options: Sequence[Option]) -> tuple[str, bytes]:
    """(coder, bytes) of the shortest; what cannot be shorter than one that is made is not made."""
    best: tuple[str, bytes] | None = None
    for least, coder, make in sorted(options, key=lambda option: option[0]):
        if best is not None and least >= len(best[1]):
            break
        data = make()
        if best is None or len(data) < len(best[1]):
            best = coder, data
    assert best is not None
    return best
