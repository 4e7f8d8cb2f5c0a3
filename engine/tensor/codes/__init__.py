"""Integers to bytes and back, one file for each coder.

Every stream made here holds its own alphabet and, where a coder needs them, the integer counts
that its model is made of. Nothing here knows of tensors, nets or files. To add a coder, write its file and
name it in CODERS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes import context, floats
from engine.tensor.codes.bits import CodeError, Ints, pack_bits, read_varints, unpack_bits, varints, width
from engine.tensor.codes.coder import Coder, shortest
from engine.tensor.codes.context import CONTEXT
from engine.tensor.codes.counts import Counted, counted, entropy_bits, gaps, huffman_lengths
from engine.tensor.codes.entropy import ENTROPY
from engine.tensor.codes.packed import PACKED
from engine.tensor.codes.relative_index import RELATIVE
from engine.tensor.codes.sparse import SPARSE, rare_symbols

__all__ = [
    "CODERS",
    "CodeError",
    "Coder",
    "Counted",
    "Ints",
    "chosen",
    "counted",
    "decode",
    "encode",
    "entropy_bits",
    "gaps",
    "huffman_lengths",
    "ideal_bits",
    "only",
    "pack_bits",
    "read_varints",
    "unpack_bits",
    "varints",
    "warm_up",
    "width",
]

CODERS: dict[str, Coder] = {coder.name: coder for coder in (PACKED, ENTROPY, SPARSE, CONTEXT, RELATIVE)}
_chosen: ContextVar[str] = ContextVar("coder", default="")


def encode(symbols: NDArray[np.integer], columns: int = 0) -> tuple[str, bytes]:
    """The shortest stream for symbols (n,), any integers within 2^55: (coder, bytes); `decode` reads it.

    Where they are a matrix, `columns` is the length of its rows: contexts are found along both.

    >>> coder, data = encode(np.array([7, 7, 7, 9]))
    >>> coder, decode(coder, data, 4).tolist()
    ('packed', [7, 7, 7, 9])
    """
    view = counted(symbols, columns)
    asked = CODERS[chosen()].options(view) if chosen() else []
    offered = (coder for coder in CODERS.values() if coder.is_offered)
    return shortest(asked or [option for coder in offered for option in coder.options(view)])


def chosen() -> str:
    """The coder that `only` asks for, empty where the shortest is taken."""
    return _chosen.get()


@contextmanager
def only(coder: str) -> Iterator[None]:
    """Write with one coder, wherever it can write a stream: for comparisons. Empty: with the shortest.

    >>> with only("relative"):
    ...     encode(np.array([0, 0, 0, 0, 5, 0, 5, 0]))[0]
    'relative'
    """
    if coder and coder not in CODERS:
        raise CodeError(f"coder {ascii(coder)[:40]} is unknown; there are {', '.join(CODERS)}")
    before = _chosen.set(coder)
    try:
        yield
    finally:
        _chosen.reset(before)


def decode(coder: str, data: bytes, count: int) -> Ints:
    """The `count` symbols of a stream: (count,) int64. Raises CodeError for a damaged one."""
    if coder not in CODERS:
        raise CodeError(f"coder {ascii(coder)[:40]} is unknown; there are {', '.join(CODERS)}")
    return CODERS[coder].decode(data, count)


def warm_up() -> None:
    """Compile the loops of the coders, or read them from where they are kept: seconds, or a moment."""
    symbols = np.arange(2 * context.FEWEST) % 3
    CONTEXT.decode(CONTEXT.options(counted(symbols, context.FEWEST))[0][2](), len(symbols))
    context.priced(
        symbols, context.FEWEST, symbols.astype(np.float32), np.ones(len(symbols), np.float32), 0.0
    )
    floats.decode(floats.encode(np.arange(9, dtype=np.float32)), 9)


def ideal_bits(symbols: NDArray[np.integer]) -> float:
    """The smallest order-0 entropy of the models of `packed`, `entropy` and `sparse`, tables left out.

    The models are the stream itself and, where one symbol makes up half of it, the gaps
    between the others plus those others. (A mask plus the others is the stream itself.) They suppose that
    no symbol says anything about another: the coder `context`, which looks at neighbours, may take less.
    """
    view = counted(symbols)
    whole = entropy_bits(view.counts)
    if rare := rare_symbols(view):
        positions, others = rare
        return min(whole, entropy_bits(counted(gaps(positions)).counts) + entropy_bits(others.counts))
    return whole
