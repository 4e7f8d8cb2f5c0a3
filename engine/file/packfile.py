"""The .slim file: a bundle as bytes and back, bit for bit, with every byte accounted for.

Layout: `SLIM`, format version, CRC-32 of all tensors, length of the header, the header (JSON,
zlib), then the sections of each tensor in order. The header holds the architecture with its
edits, the recipe, and for each tensor its name, kind, shape, codings and lengths. Nothing
is ever evaluated or unpickled. The origin is not in the file: what is read back stands alone.

`pack` and `unpack` hold the whole net; `write`, `read` and `verify` one tensor at a time.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import torch
from torch import Tensor

from engine.file import checks
from engine.recipe import migrate
from engine.tensor.formats import of_kind
from engine.tensor.formats.numbers import numbers
from engine.types import Arch, Basis, Bundle, Figure, FormatError, Param, Recipe, SlimscopeError

MAGIC = b"SLIM"
VERSION = 1
PREFIX = struct.Struct("<4sBII")  # magic, version, CRC-32, bytes of the packed header
LARGEST_HEADER = 1 << 24  # bytes of JSON
LARGEST_NET = 1 << 30  # numbers in all tensors together
AT_ONCE = 1 << 27  # numbers in memory together, unless the reader allows more: 512 MiB as 32-bit floats
CHUNK = 1 << 20  # bytes that are copied at a time
BUFFER = 1 << 16  # bytes that are read at a time, where sections are shorter
SPOOL = 1 << 24  # bytes that wait in memory, not on disk
# What reading can meet in bytes that were not written here; each ends as one PackError.
DAMAGE = (
    SlimscopeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)
HEADER = {"arch": list, "recipe": list, "names": list, "tensors": list, "codings": list, "lengths": list}


class PackError(SlimscopeError):
    """A bundle that cannot be packed, or bytes that are no packed bundle; the text says why."""

    def __str__(self) -> str:
        # What stands in a strange file may be half a character, which no page can show.
        return super().__str__().encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Section:
    """A run of bytes in the file: whose it is, what it holds, and how that is coded."""

    tensor: str
    part: str
    coding: str
    data: bytes | memoryview


@dataclass(frozen=True)
class Head:
    """What stands in a file before its tensors: `tensors` has name, description and codings of each."""

    arch: Arch
    lineage: Recipe
    tensors: list[tuple[str, list[Any], list[str]]]
    lengths: list[int]  # bytes of each section
    body: int  # where the sections start
    checksum: int


Row = tuple[str, str, str, int]  # tensor, part, coding, bytes


# ---------------------------------------------------------------- whole files


def pack(bundle: Bundle) -> bytes:
    """The bundle as the bytes of a .slim file; the same bundle always gives the same bytes.

    Every tensor takes the shortest of the codings that its kind has. Raises PackError for
    tensors that `unpack` would not take back: wrong types, parts that do not fit together, or
    more than AT_ONCE numbers.

    >>> from engine.tensor.formats import Dense
    >>> from engine.types import Arch
    >>> b = Bundle(Arch("bare"), {"w": Dense(torch.zeros(100, 100))})
    >>> len(pack(b)) < 200
    True
    """
    body: list[bytes | memoryview] = []
    head, _ = _put(bundle.arch, bundle.lineage, bundle.params.items(), body.append, AT_ONCE)
    return b"".join([head, *body])


def unpack(data: bytes, limit: int = AT_ONCE) -> Bundle:
    """The bundle of a .slim file: kinds, tensors, architecture and recipe as they were packed.

    Raises PackError for anything that was not written here: another kind of file, cut off,
    damaged (a checksum covers every tensor), or with more than `limit` numbers.
    """
    file = BytesIO(data)
    head = _read_head(file, len(data))
    _check_total(sum(_numbers_in(about) for _, about, _ in head.tensors), limit)
    return Bundle(head.arch, dict(_read_params(file, head)), None, head.lineage)


def admit(data: bytes, limit: int = AT_ONCE) -> Bundle:
    """As `unpack`, of a file that anybody may have written: what it holds can be shown, or is refused.

    Raises PackError as `unpack` does, and with what `engine.file.checks` has against the net. Tensors that
    do not fit their architecture are refused before memory is taken for them.
    """
    try:
        head = _read_head(BytesIO(data), len(data))
        checks.check_net(head.arch, head.lineage, {name: about[1] for name, about, _ in head.tensors})
        bundle = unpack(data, limit)
        checks.check(bundle)
    except PackError:
        raise
    except SlimscopeError as error:
        raise PackError(f"this .slim file can't be opened: {error}") from None
    return bundle


def sections(bundle: Bundle) -> pd.DataFrame:
    """Where every byte of the file is: tensor, part, coding, bytes; the rows add up to its size."""
    return _table(_put(bundle.arch, bundle.lineage, bundle.params.items(), len)[1])


def _table(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["tensor", "part", "coding", "bytes"])


def size(bundle: Bundle) -> Figure:
    """Bytes of the real file: written to disk, asked for its size, read back and compared.

    Raises PackError where what comes back is not the bundle, bit for bit.
    """
    with tempfile.TemporaryDirectory(prefix="slimscope-") as folder:
        path = Path(folder) / "net.slim"
        if 4 * sum(math.prod(param.shape) for param in bundle.params.values()) < SPOOL:
            path.write_bytes(pack(bundle))  # the same bytes, copied once less
        else:
            _put_file(path, bundle.arch, bundle.lineage, bundle.params.items())
        length = path.stat().st_size
        verify(path, bundle.arch, bundle.lineage, bundle.params.items())
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
        if lost := _different_part(name, param, other.params[name]):
            return lost
    return None


def _different_part(name: str, one: Param, other: Param) -> str | None:
    """The first part in which two parameters of one description differ."""
    for (part, mine), theirs in zip(one.tensors().items(), other.tensors().values(), strict=True):
        if not torch.equal(_bits(mine), _bits(theirs)):
            return f"{part} of {name}"
    return None


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(torch.int32)  # compares -0.0 and 0.0 as different


# ---------------------------------------------------------------- tensor by tensor


def write(
    path: Path, arch: Arch | Callable[[], Arch], lineage: Recipe, params: Iterable[tuple[str, Param]]
) -> pd.DataFrame:
    """Write a .slim file, whole or not at all; what `sections` says of it. The bytes are those of `pack`.

    Each parameter is coded as it comes and then let go, so that a net of up to LARGEST_NET
    numbers needs memory for its largest tensor. Raises PackError as `pack` does, and for a name
    that comes twice; whatever `params` raises passes through. An architecture that is known only
    behind the last parameter is given as a function.
    """
    return _table(_put_file(path, arch, lineage, params))


def read(path: Path, limit: int = AT_ONCE) -> tuple[Arch, Recipe, Iterator[tuple[str, Param]]]:
    """Architecture, recipe and parameters of a .slim file; each parameter is read when it is asked for.

    Raises PackError as `unpack` does, with `limit` for the numbers of one tensor: small files may
    hold large tensors of zeros. The checksum is known, and refused, only behind the last parameter.
    """
    with path.open("rb") as file:
        head = _read_head(file, path.stat().st_size)
    _check_total(max((_numbers_in(about) for _, about, _ in head.tensors), default=0), limit)

    def params() -> Iterator[tuple[str, Param]]:
        with path.open("rb", BUFFER) as file:
            yield from _read_params(file, head)

    return head.arch, head.lineage, params()


def verify(path: Path, arch: Arch, lineage: Recipe, params: Iterable[tuple[str, Param]]) -> None:
    """Read a .slim file and compare it with what it should hold, bit for bit, one tensor at a time.

    Raises PackError that names the first thing that differs, as `difference` does.
    """
    with path.open("rb", BUFFER) as file:
        head = _read_head(file, path.stat().st_size)
        _expect(head.arch.data == arch.data, "the architecture")
        _expect(head.lineage == lineage, "the recipe")
        told, stored = iter(head.tensors), _read_params(file, head)
        for name, param in params:
            called, about, _ = next(told, (None, None, None))
            _expect(called == name, "the names of the tensors")
            # Before it is read, so that no more memory is taken than for what should be there.
            _expect(about == _description(param), f"kind or shape of {name}")
            lost = _different_part(name, param, next(stored)[1])
            _expect(lost is None, str(lost))
        _expect(next(told, None) is None, "the names of the tensors")
        next(stored, None)  # the checksum


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise PackError(f"the packed file does not give the net back: {what}")


# ---------------------------------------------------------------- writing


def _put_file(
    path: Path, arch: Arch | Callable[[], Arch], lineage: Recipe, params: Iterable[tuple[str, Param]]
) -> list[Row]:
    partial = path.with_name(f".{path.name[:40]}-{uuid.uuid4().hex[:12]}")
    try:
        # The head stands in front but is known last: until then the sections lie in a file without a name.
        with tempfile.SpooledTemporaryFile(SPOOL, dir=str(path.parent)) as body:
            head, rows = _put(arch, lineage, params, body.write)
            body.seek(0)
            with partial.open("xb") as whole:
                whole.write(head)
                shutil.copyfileobj(body, whole, CHUNK)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return rows


def _put(
    arch: Arch | Callable[[], Arch],
    lineage: Recipe,
    params: Iterable[tuple[str, Param]],
    put: Callable[[bytes | memoryview], object],
    limit: int = LARGEST_NET,
) -> tuple[bytes, list[Row]]:
    """Give each section to `put`, in order; the head that stands in front of them, and a row for each."""
    tensors: dict[str, list[Any]] = {}
    codings: list[list[str]] = []
    rows: list[Row] = []
    total = checksum = 0
    for name, param in params:
        if name in tensors:
            raise PackError(f"two tensors are called {name!r}")
        tensors[name] = about = _description(param)
        total += _numbers_in(about)
        if total > limit:
            raise PackError(f"the net has {total:,} numbers or more: allowed are {limit:,}")
        listed = _write(name, param)
        for section in listed:
            put(section.data)
        checksum = _checksum(param, checksum)
        codings.append([s.coding for s in listed])
        rows += [(s.tensor, s.part, s.coding, len(s.data)) for s in listed]
    header = {
        "arch": (arch if isinstance(arch, Arch) else arch()).data,
        "recipe": json.loads(lineage.key),
        "names": list(tensors),
        "tensors": list(tensors.values()),
        "codings": codings,
        "lengths": [length for *_, length in rows],
    }
    packed = zlib.compress(json.dumps(header, separators=(",", ":"), allow_nan=False).encode(), 9)
    head = PREFIX.pack(MAGIC, VERSION, checksum, len(packed)) + packed
    return head, [("", "header", "zlib", len(head)), *rows]


def _checksum(param: Param, checksum: int) -> int:
    for tensor in param.tensors().values():
        checksum = zlib.crc32(numbers(tensor).data, checksum)
    return checksum


def _description(param: Param) -> list[Any]:
    """Kind, shape, and what else must be known before the sections can be read."""
    return [param.kind, list(param.shape), *param.settings()]


def _write(name: str, param: Param) -> list[Section]:
    _check_types(name, param)
    try:
        param.check(name)
    except FormatError as error:
        raise PackError(str(error)) from None
    return [Section(name, *section) for section in param.sections()]


def _check_types(name: str, param: Param) -> None:
    for part, tensor in param.tensors().items():
        wanted = torch.int32 if part in ("codes", "zero") else torch.float32
        if tensor.dtype != wanted:
            raise PackError(f"{part} of {name!r} are {tensor.dtype}: a file holds {wanted}")


# ---------------------------------------------------------------- reading


@contextmanager
def _damage() -> Iterator[None]:
    """Whatever goes wrong in strange bytes is told as one kind of error."""
    try:
        yield
    except PackError:
        raise
    except FormatError as error:
        raise PackError(str(error)) from None
    except DAMAGE as error:
        raise PackError(f"this .slim file is damaged or cut off: {error}") from None


def _read_head(file: BinaryIO, size: int) -> Head:
    """The head of a file of `size` bytes; the file stands at its first section then."""
    prefix = file.read(PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC:
        raise PackError("this is not a .slim file: it does not start with SLIM")
    with _damage():
        _, version, checksum, length = PREFIX.unpack(prefix)
        if version != VERSION:
            raise PackError(f"this .slim file has format {version}: this program reads {VERSION}")
        body = PREFIX.size + length
        header = _read_header(file.read(min(length, size)))
        _check_header(header, size - body)
        tensors = list(zip(header["names"], header["tensors"], header["codings"], strict=True))
        recipe = migrate.current(Recipe.from_key(json.dumps(header["recipe"])))
        return Head(Arch.from_data(header["arch"]), recipe, tensors, header["lengths"], body, checksum)


def _read_params(file: BinaryIO, head: Head) -> Iterator[tuple[str, Param]]:
    file.seek(head.body)
    cuts = (file.read(length) for length in head.lengths)
    checksum = 0
    with _damage():
        for name, about, codings in head.tensors:
            param = _read_param(name, about, codings, cuts)
            checksum = _checksum(param, checksum)
            yield name, param
    if checksum != head.checksum:
        raise PackError("this .slim file is damaged: the checksum of its tensors differs")


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
    for key, kind in HEADER.items():
        if not isinstance(header.get(key), kind):
            raise PackError(f"the header of this .slim file is damaged: {key} is no list")
    names, tensors, lengths = header["names"], header["tensors"], header["lengths"]
    if not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
        raise PackError("the header of this .slim file names a tensor twice or not at all")
    checks.check_arch_data(header["arch"])
    for about in tensors:
        _check_description(about)
    if not all(isinstance(c, list) and all(isinstance(n, str) for n in c) for c in header["codings"]):
        raise PackError("the header of this .slim file is damaged: a coding is no name")
    if not all(_is_count(n) for n in [*lengths, *(n for about in tensors for n in _extents(about))]):
        raise PackError("a length or shape in this .slim file is not a whole number or absurdly large")
    if sum(lengths) != left or len(lengths) != sum(len(c) for c in header["codings"]):
        raise PackError(f"this .slim file is cut off or too long: {left} bytes left of {sum(lengths)}")
    _check_total(sum(_numbers_in(about) for about in tensors), LARGEST_NET)


def _check_description(about: Any) -> None:
    """Refuse what is no list of a kind, a shape of few axes, and what the kind needs."""
    match about:
        case [str(), list(shape), *_] if len(shape) > checks.MOST_AXES:
            raise PackError(f"a tensor in this .slim file has more than {checks.MOST_AXES} dimensions")
        case [str(), list(), *_]:
            return
    raise PackError(f"this .slim file is damaged: a tensor is described as {ascii(about)[:60]}")


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number <= LARGEST_NET * 4


def _check_total(total: int, limit: int) -> None:
    if total > limit:
        raise PackError(f"this .slim file announces {total:,} numbers: allowed are {limit:,}")


def _numbers_in(about: list[Any]) -> int:
    """Numbers in a tensor, its scales or its table."""
    count: int = math.prod(about[1]) + of_kind(about[0]).numbers_beside(about[2:])
    return count


def _extents(about: list[Any]) -> list[Any]:
    """The shape, and how many numbers are beside it."""
    return [*about[1], of_kind(about[0]).numbers_beside(about[2:])]


def _read_param(name: str, about: list[Any], codings: list[str], cuts: Iterator[bytes]) -> Param:
    kind, shape, *settings = about
    return of_kind(kind).from_sections(name, shape, settings, codings, cuts)
