"""The .slim file: a bundle as bytes and back, bit for bit, with every byte accounted for.

Layout: `SLIM`, format version, CRC-32 of all tensors, length of the header, the header (JSON,
zlib), then the sections of each tensor in order. The header holds the architecture with its
edits, the recipe, and for each tensor its name, kind, shape, codings and lengths. Nothing
is ever evaluated or unpickled. The origin is not in the file: what is read back stands alone.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine import codes
from engine.types import (
    Arch,
    Basis,
    Book,
    Bundle,
    Dense,
    Figure,
    Grid,
    Param,
    Recipe,
    SlimscopeError,
    spread_over,
)

MAGIC = b"SLIM"
VERSION = 1
PREFIX = struct.Struct("<4sBII")  # magic, version, CRC-32, bytes of the packed header
LARGEST_HEADER = 1 << 24  # bytes of JSON
LARGEST_NET = 1 << 27  # numbers in all tensors together: 512 MiB as 32-bit floats
# What reading can meet in bytes that were not written here; each ends as one PackError.
DAMAGE = (SlimscopeError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)


class PackError(SlimscopeError):
    """A bundle that cannot be packed, or bytes that are no packed bundle; the text says why."""


@dataclass(frozen=True)
class Section:
    """A run of bytes in the file: whose it is, what it holds, and how that is coded."""

    tensor: str
    part: str
    coding: str
    data: bytes


# ---------------------------------------------------------------- whole files


def pack(bundle: Bundle) -> bytes:
    """The bundle as the bytes of a .slim file; the same bundle always gives the same bytes.

    Every tensor takes the shortest of the codings that its kind has. Raises PackError for
    tensors that `unpack` would not take back: wrong types, or parts that do not fit together.

    >>> from engine.types import Arch
    >>> b = Bundle(Arch("bare"), {"w": Dense(torch.zeros(100, 100))})
    >>> len(pack(b)) < 200
    True
    """
    return b"".join(section.data for section in _sections(bundle))


def unpack(data: bytes) -> Bundle:
    """The bundle of a .slim file: kinds, tensors, architecture and recipe as they were packed.

    Raises PackError for anything that `pack` has not written: another kind of file, cut off,
    damaged (a checksum covers every tensor) or larger than LARGEST_NET.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise PackError("this is not a .slim file: it does not start with SLIM")
    try:
        return _read(data)
    except PackError:
        raise
    except DAMAGE as error:
        raise PackError(f"this .slim file is damaged or cut off: {error}") from None


def sections(bundle: Bundle) -> pd.DataFrame:
    """Where every byte of the file is: tensor, part, coding, bytes; the rows add up to its size."""
    rows = [(s.tensor, s.part, s.coding, len(s.data)) for s in _sections(bundle)]
    return pd.DataFrame(rows, columns=["tensor", "part", "coding", "bytes"])


def size(bundle: Bundle) -> Figure:
    """Bytes of the real file: written to disk, asked for its size, read back and compared.

    Raises PackError where what comes back is not the bundle, bit for bit.
    """
    with tempfile.TemporaryDirectory(prefix="slimscope-") as folder:
        path = Path(folder) / "net.slim"
        path.write_bytes(pack(bundle))
        length = path.stat().st_size
        lost = difference(bundle, unpack(path.read_bytes()))
    if lost is not None:
        raise PackError(f"the packed file does not give the net back: {lost}")
    how = "bytes of the .slim file on disk, header included; read back, decoded and equal bit for bit"
    return Figure("file size", length, "B", Basis.MEASURED, how)


def difference(one: Bundle, other: Bundle) -> str | None:
    """The first thing in which two bundles differ, or None: architecture, recipe, every tensor's bits."""
    if one.arch.data != other.arch.data:
        return "the architecture"
    if one.lineage != other.lineage:
        return "the recipe"
    if list(one.params) != list(other.params):
        return "the names of the tensors"
    for name, param in one.params.items():
        if _description(param) != _description(other.params[name]):
            return f"kind or shape of {name}"
        pairs = zip(param.tensors().items(), other.params[name].tensors().values(), strict=True)
        for (part, mine), theirs in pairs:
            if not torch.equal(_bits(mine), _bits(theirs)):
                return f"{part} of {name}"
    return None


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(torch.int32)  # compares -0.0 and 0.0 as different


# ---------------------------------------------------------------- writing


def _sections(bundle: Bundle) -> list[Section]:
    """The whole file in order, header first."""
    total = sum(t.numel() for p in bundle.params.values() for t in p.tensors().values())
    if total > LARGEST_NET:
        raise PackError(f"the net has {total:,} numbers: allowed are {LARGEST_NET:,}")
    parts = {name: _write(name, param) for name, param in bundle.params.items()}
    header = {
        "arch": bundle.arch.data,
        "recipe": json.loads(bundle.lineage.key),
        "names": list(bundle.params),
        "tensors": [_description(param) for param in bundle.params.values()],
        "codings": [[s.coding for s in listed] for listed in parts.values()],
        "lengths": [len(s.data) for listed in parts.values() for s in listed],
    }
    packed = zlib.compress(json.dumps(header, separators=(",", ":"), allow_nan=False).encode(), 9)
    prefix = PREFIX.pack(MAGIC, VERSION, _checksum(bundle), len(packed))
    return [Section("", "header", "zlib", prefix + packed), *(s for listed in parts.values() for s in listed)]


def _checksum(bundle: Bundle) -> int:
    checksum = 0
    for param in bundle.params.values():
        for tensor in param.tensors().values():
            checksum = zlib.crc32(_numbers(tensor).data, checksum)
    return checksum


def _numbers(tensor: Tensor) -> NDArray[Any]:
    """A tensor's numbers, flat, in the file's byte order (little-endian)."""
    flat = tensor.detach().contiguous().reshape(-1).numpy()
    return np.ascontiguousarray(flat, flat.dtype.newbyteorder("<"))


def _description(param: Param) -> list[Any]:
    """Kind, shape, and what else must be known before the sections can be read."""
    match param:
        case Dense():
            return ["dense", list(param.shape)]
        case Grid():
            return ["grid", list(param.shape), param.bits, param.axis, param.group, len(param.scale)]
        case Book():
            return ["book", list(param.shape), len(param.table)]


def _write(name: str, param: Param) -> list[Section]:
    _check_types(name, param)
    check(name, param)
    match param:
        case Dense():
            return _write_dense(name, _numbers(param.values), len(param.shape))
        case Grid():
            return [
                Section(name, "codes", *_write_codes(param)),
                Section(name, "scales", "raw", _numbers(param.scale).tobytes()),
                Section(name, "zero points", *codes.encode(_numbers(param.zero))),
            ]
        case Book():
            return [
                Section(name, "codes", *codes.encode(_numbers(param.codes))),
                Section(name, "table", "raw", _numbers(param.table).tobytes()),
            ]


def _check_types(name: str, param: Param) -> None:
    for part, tensor in param.tensors().items():
        wanted = torch.int32 if part in ("codes", "zero") else torch.float32
        if tensor.dtype != wanted:
            raise PackError(f"{part} of {name!r} are {tensor.dtype}: a file holds {wanted}")


def check(name: str, param: Param) -> None:
    """Refuse a parameter whose parts do not fit together, with PackError."""
    match param:
        case Grid():
            flat = param.scale.dim() == 1 and param.zero.shape == param.scale.shape
            if not flat or len(param.scale) != _groups(name, param):
                raise PackError(
                    f"{name!r} has scales {tuple(param.scale.shape)}, zero points {tuple(param.zero.shape)}: "
                    f"codes {param.shape}, axis {param.axis}, group {param.group} need {_groups(name, param)}"
                )
        case Book():
            used = param.codes.numel() > 0
            inside = not used or 0 <= int(param.codes.min()) <= int(param.codes.max()) < len(param.table)
            if param.table.dim() != 1 or not inside:
                raise PackError(f"a code of {name!r} is outside of its table of {len(param.table)} values")


def _groups(name: str, grid: Grid) -> int:
    """How many scales a grid of this shape has."""
    shape, axis, group = grid.shape, grid.axis, grid.group
    if (axis is not None and not 0 <= axis < len(shape)) or (group is not None and group < 1):
        raise PackError(f"{name!r} of shape {shape} has no axis {axis} with groups of {group}")
    rows = 1 if axis is None else shape[axis]
    columns = math.prod(shape) // max(rows, 1)
    return rows * (1 if group is None else math.ceil(columns / group))


def zero_marks(values: NDArray[Any]) -> codes.Ints:
    """What each of the float32 values (n,) is: 0 exact zero, 1 another number, 2 the negative zero."""
    pattern = values.view(np.uint32)
    marks: codes.Ints = (pattern != 0).astype(np.int64)
    marks[pattern == 1 << 31] = 2
    return marks


def _write_dense(name: str, values: NDArray[Any], dimensions: int) -> list[Section]:
    whole = [Section(name, "values", "raw", values.tobytes())]
    if dimensions < 2 or np.count_nonzero(values) == len(values):
        return whole
    marks = zero_marks(values)
    sparse = [
        Section(name, "positions", *codes.encode(marks)),
        Section(name, "values", "survivors", values[marks == 1].tobytes()),
    ]
    return min(whole, sparse, key=lambda listed: sum(len(s.data) for s in listed))


def grid_streams(grid: Grid) -> dict[str, codes.Ints]:
    """The integer streams that a grid's codes may be written as: name -> (n,) symbols.

    `codes` as they are; where zero points differ, also `steps` = code - zero point, in which
    an exact zero is the same symbol everywhere.
    """
    flat = _numbers(grid.codes).astype(np.int64)
    zero = _numbers(grid.zero)
    if len(flat) == 0 or len(zero) < 2 or int(zero.min()) == int(zero.max()):
        return {"codes": flat}
    return {"codes": flat, "steps": flat - _zero_points(grid.shape, grid.zero, grid.axis, grid.group)}


def _zero_points(shape: Sequence[int], zero: Tensor, axis: int | None, group: int | None) -> codes.Ints:
    """The zero point of every code, in the order of the codes: (n,)."""
    rows = 1 if axis is None else shape[axis]
    columns = math.prod(shape) // max(rows, 1)
    lead = 0 if axis is None else axis
    moved = [shape[lead], *(s for i, s in enumerate(shape) if i != lead)]
    each = spread_over(zero, rows, columns, group).expand(rows, columns).reshape(moved)
    spread: codes.Ints = _numbers(each.movedim(0, lead)).astype(np.int64)
    return spread


def _write_codes(grid: Grid) -> tuple[str, bytes]:
    written = [
        (coding if name == "codes" else f"{name} {coding}", data)
        for name, stream in grid_streams(grid).items()
        for coding, data in [codes.encode(stream)]
    ]
    return min(written, key=lambda pair: len(pair[1]))


# ---------------------------------------------------------------- reading


def _read(data: bytes) -> Bundle:
    _, version, checksum, length = PREFIX.unpack_from(data)
    if version != VERSION:
        raise PackError(f"this .slim file has format {version}: this program reads {VERSION}")
    body = PREFIX.size + length
    header = _read_header(data[PREFIX.size : body])
    _check_header(header, len(data) - body)
    ends = np.cumsum([body, *header["lengths"]]).tolist()
    cuts = iter([data[start:end] for start, end in pairwise(ends)])
    rows = zip(header["names"], header["tensors"], header["codings"], strict=True)
    params = {name: _read_param(name, about, codings, cuts) for name, about, codings in rows}
    recipe = Recipe.from_key(json.dumps(header["recipe"]))
    bundle = Bundle(Arch.from_data(header["arch"]), params, None, recipe)
    if _checksum(bundle) != checksum:
        raise PackError("this .slim file is damaged: the checksum of its tensors differs")
    return bundle


def _read_header(packed: bytes) -> dict[str, Any]:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(packed, LARGEST_HEADER)
    except zlib.error as error:
        raise PackError(f"the header of this .slim file is damaged: {error}") from None
    if not stream.eof or stream.unused_data:
        raise PackError("the header of this .slim file is cut off or too long")
    header = json.loads(plain)
    if not isinstance(header, dict):
        raise PackError("the header of this .slim file is not a table")
    return header


def _check_header(header: dict[str, Any], left: int) -> None:
    """Everything that must hold before memory is taken for a tensor."""
    names, lengths = header["names"], header["lengths"]
    if not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
        raise PackError("the header of this .slim file names a tensor twice or not at all")
    whole = [*lengths, *(extent for about in header["tensors"] for extent in _extents(about))]
    if not all(type(n) is int and 0 <= n <= LARGEST_NET * 4 for n in whole):
        raise PackError("a length or shape in this .slim file is not a whole number or absurdly large")
    if any(len(about[1]) > 8 for about in header["tensors"]):
        raise PackError("a tensor in this .slim file has more than 8 dimensions")
    if sum(lengths) != left or len(lengths) != sum(len(c) for c in header["codings"]):
        raise PackError(f"this .slim file is cut off or too long: {left} bytes left of {sum(lengths)}")
    total = sum(math.prod(about[1]) + sum(_extents(about)[len(about[1]) :]) for about in header["tensors"])
    if total > LARGEST_NET:
        raise PackError(f"this .slim file announces {total:,} numbers: allowed are {LARGEST_NET:,}")


def _extents(about: list[Any]) -> list[Any]:
    """The shape, and the length of the scales or the table behind it."""
    return [*about[1], *about[-1:]] if about[0] in ("grid", "book") else list(about[1])


def _read_param(name: str, about: list[Any], codings: list[str], cuts: Iterator[bytes]) -> Param:
    count = math.prod(about[1])
    match about, codings:
        case ["dense", shape], ["raw"]:
            return Dense(_floats(next(cuts), count).reshape(shape))
        case ["dense", shape], [coding, "survivors"]:
            marks = codes.decode(coding, next(cuts), count)
            return Dense(_survivors(marks, next(cuts)).reshape(shape))
        case ["grid", shape, *settings], [coding, "raw", zeros]:
            return _read_grid(name, shape, settings, (coding, zeros), cuts)
        case ["book", shape, length], [coding, "raw"]:
            flat = codes.decode(coding, next(cuts), count)
            book = Book(_integers(flat).reshape(shape), _floats(next(cuts), length))
            check(name, book)
            return book
    raise PackError(f"{name!r} in this .slim file is of an unknown kind: {about[0]} as {', '.join(codings)}")


def _read_grid(
    name: str, shape: list[int], settings: list[Any], codings: tuple[str, str], cuts: Iterator[bytes]
) -> Grid:
    bits, axis, group, scales = settings
    if not all(n is None or type(n) is int for n in (axis, group)) or type(bits) is not int:
        raise PackError(f"bits, axis and group of {name!r} are {bits}, {axis} and {group}")
    coding, stream = codings[0], next(cuts)
    scale = _floats(next(cuts), scales)
    zero = _integers(codes.decode(codings[1], next(cuts), scales))
    # Checked without codes first: the zero points are spread over them.
    hollow = torch.empty(shape, dtype=torch.int32, device="meta")
    check(name, Grid(hollow, scale, zero, bits, axis, group))
    flat = codes.decode(coding.removeprefix("steps "), stream, math.prod(shape))
    if coding.startswith("steps "):
        flat = flat + _zero_points(shape, zero, axis, group)
    return Grid(_integers(flat).reshape(shape), scale, zero, bits, axis, group)


def _floats(data: bytes, count: int) -> Tensor:
    if len(data) != 4 * count:
        raise PackError(f"{count} 32-bit numbers take {4 * count} bytes, not {len(data)}")
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))


def _survivors(marks: codes.Ints, data: bytes) -> Tensor:
    if len(marks) and not 0 <= int(marks.min()) <= int(marks.max()) <= 2:
        raise PackError("a position in this .slim file is neither zero nor a number")
    values = np.where(marks == 2, np.float32(-0.0), np.float32(0.0))
    values[marks == 1] = _floats(data, int((marks == 1).sum())).numpy()
    return torch.from_numpy(values)


def _integers(numbers: codes.Ints) -> Tensor:
    if len(numbers) and not -(1 << 31) <= int(numbers.min()) <= int(numbers.max()) < 1 << 31:
        raise PackError("a code in this .slim file does not fit into 32 bits")
    return torch.from_numpy(numbers.astype(np.int32))
