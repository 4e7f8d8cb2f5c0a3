"""A .slim file written: as bytes, or tensor by tensor; how long it is, and where its bytes are."""

from __future__ import annotations

import math
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from engine.file.packfile import coded
from engine.file.packfile.head import (
    AT_ONCE,
    LARGEST_NET,
    PackError,
    add_checksum,
    description,
    head_bytes,
    numbers_in,
)
from engine.file.packfile.reading import verify, verify_coded
from engine.types import Arch, Basis, Bundle, Figure, FormatError, Param, Recipe, Section

CHUNK = 1 << 20  # bytes that are copied at a time
SPOOL = 1 << 24  # bytes that wait in memory, not on disk

Row = tuple[str, str, str, int]  # tensor, part, coding, bytes


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
    head, _ = _put_bundle(bundle, body.append, AT_ONCE)
    return b"".join([head, *body])


def sections(bundle: Bundle) -> pd.DataFrame:
    """Where every byte of the file is: tensor, part, coding, bytes; the rows add up to its size."""
    return _table(_put_bundle(bundle, len, LARGEST_NET)[1])


def _table(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["tensor", "part", "coding", "bytes"])


def _put_bundle(
    bundle: Bundle, put: Callable[[bytes | memoryview], object], limit: int
) -> tuple[bytes, list[Row]]:
    return _put(bundle.arch, bundle.lineage, bundle.params.items(), put, limit, coded.sections)


def size(bundle: Bundle) -> Figure:
    """Bytes of the real file: written to disk, asked for its size, read back and compared.

    Raises PackError where what comes back is not the bundle, bit for bit.
    """
    with tempfile.TemporaryDirectory(prefix="slimscope-") as folder:
        path = Path(folder) / "net.slim"
        if 4 * sum(math.prod(param.shape) for param in bundle.params.values()) < SPOOL:
            _write_proven(path, bundle)
        else:
            _put_file(path, bundle.arch, bundle.lineage, bundle.params.items())
            verify(path, bundle.arch, bundle.lineage, bundle.params.items())
        length = path.stat().st_size
    how = "bytes of the .slim file on disk, header included; read back, decoded and equal bit for bit"
    return Figure("file size", length, "B", Basis.MEASURED, how)


def _write_proven(path: Path, bundle: Bundle) -> None:
    """Write a small bundle, each tensor decoded and compared; the file must hold what was decoded."""
    proven = {name: coded.proven(name, param) for name, param in bundle.params.items()}
    body: list[bytes | memoryview] = []
    head, _ = _put(
        bundle.arch, bundle.lineage, bundle.params.items(), body.append, AT_ONCE, lambda name, _: proven[name]
    )
    path.write_bytes(b"".join([head, *body]))
    verify_coded(path, bundle, proven)


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
    sections_of: Callable[[str, Param], list[Section]] = lambda _, param: param.sections(),
) -> tuple[bytes, list[Row]]:
    """Give each section to `put`, in order; the head that stands in front of them, and a row for each."""
    tensors: dict[str, list[Any]] = {}
    codings: list[list[str]] = []
    rows: list[Row] = []
    total = checksum = 0
    for name, param in params:
        if name in tensors:
            raise PackError(f"two tensors are called {name!r}")
        _check(name, param)
        tensors[name] = about = description(param)
        total += numbers_in(about)
        if total > limit:
            raise PackError(f"the model has {total:,} numbers or more: allowed are {limit:,}")
        listed = sections_of(name, param)
        for _, _, data in listed:
            put(data)
        checksum = add_checksum(param, checksum)
        codings.append([coding for _, coding, _ in listed])
        rows += [(name, part, coding, len(data)) for part, coding, data in listed]
    known = arch if isinstance(arch, Arch) else arch()
    head = head_bytes(known, lineage, tensors, codings, [length for *_, length in rows], checksum)
    return head, [("", "header", "deflate", len(head)), *rows]


def _check(name: str, param: Param) -> None:
    """Refuse what `unpack` would not take back."""
    for part, tensor in param.tensors().items():
        wanted = torch.int32 if part in ("codes", "zero", "bits") else torch.float32
        if tensor.dtype != wanted:
            raise PackError(f"{part} of {name!r} are {tensor.dtype}: a file holds {wanted}")
    try:
        param.check(name)
    except FormatError as error:
        raise PackError(str(error)) from None
