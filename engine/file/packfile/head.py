"""What stands in a .slim file before its tensors: written, read in each version, and checked."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from engine.file import checks
from engine.file.packfile.words import WORDS
from engine.recipe import migrate
from engine.tensor.codes import CODERS
from engine.tensor.formats import FORMATS, of_kind
from engine.tensor.formats.numbers import FLOATS, RAW, numbers
from engine.types import Arch, FormatError, Param, Recipe, SlimscopeError

MAGIC = b"SLIM"
VERSION = 3
# Raised when the same bundle would be another number of bytes: stored sizes are out of date then.
BYTES = 3
PREFIX = struct.Struct("<4sBII")  # magic, version, CRC-32, bytes of the packed header
LARGEST_HEADER = 1 << 24  # bytes of JSON
LARGEST_NET = 1 << 30  # numbers in all tensors together
AT_ONCE = 1 << 27  # numbers in memory together, unless the reader allows more: 512 MiB as 32-bit floats
CHECK = struct.Struct("<I")  # CRC-32 behind the header
# The header is a list of lists. `formats` and `coders` are the names of those in this file; `tensors` holds
# [place in formats, shape, what the format needs] and `streams` places in coders, for each tensor.
FIELDS = ("arch", "recipe", "names", "formats", "coders", "tensors", "streams", "lengths")
FIRST_FIELDS = ("arch", "recipe", "names", "tensors", "codings", "lengths")  # of version 1, a table
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


class PackError(SlimscopeError):
    """A bundle that cannot be packed, or bytes that are no packed bundle; the text says why."""

    def __str__(self) -> str:
        # What stands in a strange file may be half a character, which no page can show.
        return super().__str__().encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Head:
    """`tensors` has name, description and codings of each."""

    arch: Arch
    lineage: Recipe
    tensors: list[tuple[str, list[Any], list[str]]]
    lengths: list[int]  # bytes of each section
    body: int  # where the sections start
    checksum: int


def description(param: Param) -> list[Any]:
    """Format, shape, and what else must be known before the sections can be read."""
    return [param.kind, list(param.shape), *param.settings()]


def numbers_in(about: list[Any]) -> int:
    """Numbers in a tensor, its scales or its table."""
    kind, shape, *settings = about
    count: int = math.prod(shape) + of_kind(kind).numbers_beside(shape, settings)
    return count


def check_total(total: int, limit: int) -> None:
    if total > limit:
        raise PackError(f"this .slim file announces {total:,} numbers: allowed are {limit:,}")


def add_checksum(param: Param, checksum: int) -> int:
    for tensor in param.tensors().values():
        checksum = zlib.crc32(numbers(tensor).data, checksum)
    return checksum


# ---------------------------------------------------------------- written


def head_bytes(
    arch: Arch,
    lineage: Recipe,
    tensors: Mapping[str, list[Any]],
    codings: Sequence[Sequence[str]],
    lengths: Sequence[int],
    checksum: int,
) -> bytes:
    """The file up to its sections, for descriptions and codings by name.

    Settings that a technique got later need not be said at their defaults: the shorter header is written.
    """
    formats = list(dict.fromkeys(kind for kind, *_ in tensors.values()))
    coders = list(dict.fromkeys(coding for each in codings for coding in each))
    described = [[formats.index(kind), *rest] for kind, *rest in tensors.values()]
    streams = [[coders.index(coding) for coding in each] for each in codings]
    rest = [list(tensors), formats, coders, described, streams, lengths]
    recipes = dict.fromkeys(each.key for each in (lineage, migrate.without_added(lineage)))
    headers = [[arch.data, json.loads(recipe), *rest] for recipe in recipes]
    texts = [json.dumps(header, separators=(",", ":"), allow_nan=False) for header in headers]
    packed = min((squeezed(text.encode()) for text in texts), key=len)
    return PREFIX.pack(MAGIC, VERSION, checksum, len(packed)) + packed


def squeezed(plain: bytes) -> bytes:
    """A header as it stands in a file: deflated after `WORDS`, with a CRC-32 of its own behind it."""
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, memLevel=9, zdict=WORDS)
    packed = stream.compress(plain) + stream.flush()
    return packed + CHECK.pack(zlib.crc32(packed))


# ---------------------------------------------------------------- read


@contextmanager
def damage() -> Iterator[None]:
    """Whatever goes wrong in strange bytes is told as one kind of error."""
    try:
        yield
    except PackError:
        raise
    except FormatError as error:
        raise PackError(str(error)) from None
    except DAMAGE as error:
        # What Python says of its own calls tells a reader nothing.
        why = str(error) if isinstance(error, SlimscopeError) else "its parts do not fit together"
        raise PackError(f"this .slim file is damaged or cut off: {why}") from None


def read_head(file: BinaryIO, size: int) -> Head:
    """The head of a file of `size` bytes; the file stands at its first section then."""
    prefix = file.read(PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC:
        raise PackError("this is not a .slim file: it does not start with SLIM")
    with damage():
        _, version, checksum, length = PREFIX.unpack(prefix)
        if version not in READERS:
            raise PackError(f"this .slim file has version {version}: this program reads 1 to {VERSION}")
        body = PREFIX.size + length
        plain = _plain if version < 3 else _plain_after_words
        header = READERS[version](plain(file.read(min(length, size))))
        _check_header(header, size - body)
        tensors = list(zip(header["names"], header["tensors"], header["codings"], strict=True))
        recipe = migrate.current(Recipe.from_key(json.dumps(header["recipe"])))
        return Head(Arch.from_data(header["arch"]), recipe, tensors, header["lengths"], body, checksum)


def _plain_after_words(packed: bytes) -> Any:
    """Of version 3, as `squeezed` makes it."""
    cut = len(packed) - CHECK.size
    if cut < 0 or CHECK.pack(zlib.crc32(packed[:cut])) != packed[cut:]:
        raise PackError("the header of this .slim file is damaged: its checksum differs")
    return _inflated(zlib.decompressobj(-zlib.MAX_WBITS, WORDS), packed[:cut])


def _plain(packed: bytes) -> Any:
    return _inflated(zlib.decompressobj(), packed)


def _inflated(stream: Any, packed: bytes) -> Any:
    try:
        plain = stream.decompress(packed, LARGEST_HEADER)
    except zlib.error as error:
        raise PackError(f"the header of this .slim file is damaged: {error}") from None
    if not stream.eof or stream.unused_data:
        raise PackError("the header of this .slim file is cut off or too long")
    return json.loads(plain)


def _version_1(header: Any) -> dict[str, list[Any]]:
    """A table with the words in place; an affine grid has axis, group and number of scales."""
    if not isinstance(header, dict):
        raise PackError("the header of this .slim file is not a table")
    found = _fields(FIRST_FIELDS, [header.get(field) for field in FIRST_FIELDS])
    found["tensors"] = [_described(about) for about in found["tensors"]]
    found["codings"] = [[RAW if c == "survivors" else c for c in each] for each in found["codings"]]
    return found


def _described(about: Any) -> Any:
    match about:
        case ["grid", shape, bits, None, None, _]:
            return ["grid", shape, bits, ["tensor"]]
        case ["grid", shape, bits, axis, None, _]:
            return ["grid", shape, bits, ["axis", axis]]
        case ["grid", shape, bits, axis, group, _]:
            return ["grid", shape, bits, ["group", axis, group]]
    return about


def _version_2(header: Any) -> dict[str, list[Any]]:
    """Places in the lists of formats and coders become their names."""
    if not isinstance(header, list) or len(header) != len(FIELDS):
        raise PackError(f"the header of this .slim file is not a list of {len(FIELDS)} fields")
    found = _fields(FIELDS, header)
    _check_known("format", found["formats"], FORMATS)
    # A word before the coder's name says which stream of its format it codes.
    last = [coding.rpartition(" ")[2] if isinstance(coding, str) else coding for coding in found["coders"]]
    _check_known("coder", last, (*FLOATS, *CODERS))
    found["tensors"] = [[_named(found["formats"], kind), *rest] for kind, *rest in found["tensors"]]
    found["codings"] = [[_named(found["coders"], place) for place in each] for each in found["streams"]]
    return found


READERS = {1: _version_1, 2: _version_2, 3: _version_2}


def _fields(names: Sequence[str], values: Sequence[Any]) -> dict[str, list[Any]]:
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, list):
            raise PackError(f"the header of this .slim file is damaged: {name} is no list")
    return dict(zip(names, values, strict=True))


def _check_known(what: str, names: Sequence[Any], known: Collection[str]) -> None:
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise PackError(f"this file uses {what} {ascii(name)[:60]}, which this version does not know")


def _named(names: Sequence[str], place: Any) -> str:
    if type(place) is not int or not 0 <= place < len(names):
        raise PackError(f"this .slim file is damaged: {ascii(place)[:40]} is no place in {names}"[:200])
    return names[place]


# ---------------------------------------------------------------- checked


def _check_header(header: dict[str, Any], left: int) -> None:
    """Everything that must hold before memory is taken for a tensor."""
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
    check_total(sum(numbers_in(about) for about in tensors), LARGEST_NET)


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


def _extents(about: list[Any]) -> list[Any]:
    """The shape, and how many numbers are beside it, which only a sound shape can say."""
    kind, shape, *settings = about
    sound = all(_is_count(side) for side in shape)
    return [*shape, *([of_kind(kind).numbers_beside(shape, settings)] if sound else [])]
