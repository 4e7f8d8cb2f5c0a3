"""What a layer's numbers take in the codes that there are: real bytes of streams, beside the entropy."""

from __future__ import annotations

import lzma
import math
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from engine.tensor import codes
from engine.tensor.codes import huffman
from engine.tensor.codes.counts import counted, entropy_bits
from engine.tensor.formats import AffineGrid, Codebook, Levels, Product
from engine.tensor.formats.numbers import numbers, row_length
from engine.types import Param

MOST = 1 << 20  # symbols of a layer that are looked at
FLOAT_FIRST = 23  # bits behind a float's sign and exponent
COLUMNS = ("coder", "bytes", "bits", "over")


@dataclass(frozen=True, eq=False)
class Stream:
    """Whole numbers (n,) of a layer, in rows of `columns`, and `what` they are."""

    symbols: NDArray[np.integer]
    columns: int
    what: str

    @property
    def entropy(self) -> float:
        """Bits of all symbols together, at least, for a code that looks at one symbol at a time."""
        return entropy_bits(counted(self.symbols).counts)


def stream_of(param: Param) -> Stream:
    """What of a parameter is coded symbol by symbol: its codes, or where its zeros are, or the exponents.

    >>> import torch
    >>> from engine.tensor.formats import Dense
    >>> stream_of(Dense(torch.tensor([[0.0, 2.0]]))).symbols.tolist()
    [0, 1]
    """
    columns = row_length(param.shape)
    match param:
        case AffineGrid() | Levels():
            return Stream(numbers(param.codes)[:MOST], columns, "codes of a grid")
        case Codebook():
            return Stream(numbers(param.codes)[:MOST], columns, "numbers of shared values")
        case Product():
            return Stream(numbers(param.codes)[:MOST], param.per_row, "numbers of shared sub-vectors")
    values = numbers(param.decode())[:MOST]
    if np.count_nonzero(values) < len(values):
        return Stream((values != 0).astype(np.uint8), columns, "map of what is not zero")
    tops = (values.view(np.uint32) >> np.uint32(FLOAT_FIRST)).astype(np.int32)
    return Stream(tops, columns, "sign and exponent of each float")


def compared(stream: Stream) -> pd.DataFrame:
    """One row per coder: its bytes, bits a symbol, and bytes over the entropy; every stream is a real one."""
    n, floor = len(stream.symbols), stream.entropy
    sizes = {"entropy, order 0": math.ceil(floor / 8), **_sizes(stream)}
    rows = [
        (name, size, 8 * size / n, size / (floor / 8) - 1 if floor else math.nan)
        for name, size in sizes.items()
    ]
    rows[0] = (*rows[0][:2], floor / n, 0.0 if floor else math.nan)  # before it is rounded up to bytes
    return pd.DataFrame(rows, columns=COLUMNS)


def _sizes(stream: Stream) -> dict[str, int]:
    view = counted(stream.symbols, stream.columns)
    narrow = view.places.astype(np.min_scalar_type(max(len(view.alphabet) - 1, 0))).tobytes()
    found = {
        name: min((len(make()) for _, _, make in codes.CODERS[coder].options(view)), default=None)
        for name, coder in OURS.items()
    }
    found["Huffman"] = len(huffman.encode(stream.symbols))
    found["gzip"] = len(zlib.compress(narrow, 9))
    found["zstd"] = len(zstd(narrow))
    found["xz"] = len(lzma.compress(narrow))
    return {name: size for name in ORDER if (size := found[name]) is not None}


OURS = {
    "fixed length": "packed",
    "distances, Huffman": "relative",
    "range coder": "entropy",
    "adaptive contexts": "context",
}
ORDER = (
    "fixed length",
    *("gzip", "zstd", "xz"),
    *("Huffman", "distances, Huffman", "range coder", "adaptive contexts"),
)


def zstd(data: bytes) -> bytes:
    """A zstd frame at level 19: slow, and about as short as zstd gets.

    >>> pyarrow.Codec("zstd").decompress(zstd(9 * b"slim"), 36, asbytes=True)[:4]
    b'slim'
    """
    squeezed: bytes = pyarrow.Codec("zstd", compression_level=19).compress(data, asbytes=True)
    return squeezed


def map_floor(zeros: float) -> tuple[float, float]:
    """Bits a symbol of a map with this share of zeros: its entropy, and what a code of whole bits spends.

    >>> low, huffman = map_floor(0.98)
    >>> round(low, 2), huffman
    (0.14, 1.0)
    """
    if zeros in (0.0, 1.0):
        return 0.0, 1.0
    return -zeros * math.log2(zeros) - (1 - zeros) * math.log2(1 - zeros), 1.0
