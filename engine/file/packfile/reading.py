"""A .slim file read: whole or tensor by tensor, from friends or strangers, or to compare it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from engine.file import checks
from engine.file.packfile.head import (
    AT_ONCE,
    Head,
    PackError,
    add_checksum,
    check_total,
    damage,
    description,
    numbers_in,
    read_head,
)
from engine.tensor.formats import of_kind
from engine.types import Arch, Bundle, Param, Recipe, Section, SlimscopeError

BUFFER = 1 << 16  # bytes that are read at a time, where sections are shorter


def unpack(data: bytes, limit: int = AT_ONCE) -> Bundle:
    """The bundle of a .slim file: kinds, tensors, architecture and recipe as they were packed.

    Raises PackError for anything that was not written here: another kind of file, cut off,
    damaged (a checksum covers every tensor), or with more than `limit` numbers.
    """
    file = BytesIO(data)
    head = read_head(file, len(data))
    check_total(sum(numbers_in(about) for _, about, _ in head.tensors), limit)
    return Bundle(head.arch, dict(_read_params(file, head)), None, head.lineage)


def admit(data: bytes, limit: int = AT_ONCE) -> Bundle:
    """As `unpack`, of a file that anybody may have written: what it holds can be shown, or is refused.

    Raises PackError as `unpack` does, and with what `engine.file.checks` has against the net. Tensors that
    do not fit their architecture are refused before memory is taken for them.
    """
    try:
        head = read_head(BytesIO(data), len(data))
        checks.check_net(head.arch, head.lineage, {name: about[1] for name, about, _ in head.tensors})
        bundle = unpack(data, limit)
        checks.check(bundle)
    except PackError:
        raise
    except SlimscopeError as error:
        raise PackError(f"this .slim file can't be opened: {error}") from None
    return bundle


def read(path: Path, limit: int = AT_ONCE) -> tuple[Arch, Recipe, Iterator[tuple[str, Param]]]:
    """Architecture, recipe and parameters of a .slim file; each parameter is read when it is asked for.

    Raises PackError as `unpack` does, with `limit` for the numbers of one tensor: small files may
    hold large tensors of zeros. The checksum is known, and refused, only behind the last parameter.
    """
    with path.open("rb") as file:
        head = read_head(file, path.stat().st_size)
    check_total(max((numbers_in(about) for _, about, _ in head.tensors), default=0), limit)

    def params() -> Iterator[tuple[str, Param]]:
        with path.open("rb", BUFFER) as file:
            yield from _read_params(file, head)

    return head.arch, head.lineage, params()


def verify(path: Path, arch: Arch, lineage: Recipe, params: Iterable[tuple[str, Param]]) -> None:
    """Read a .slim file and compare it with what it should hold, bit for bit, one tensor at a time.

    Raises PackError that names the first thing that differs, as `difference` does.
    """
    with path.open("rb", BUFFER) as file:
        head = read_head(file, path.stat().st_size)
        _expect(head.arch.data == arch.data, "the architecture")
        _expect(head.lineage == lineage, "the recipe")
        told, stored = iter(head.tensors), _read_params(file, head)
        for name, param in params:
            called, about, _ = next(told, (None, None, None))
            _expect(called == name, "the names of the tensors")
            # Before it is read, so that no more memory is taken than for what should be there.
            _expect(about == description(param), f"kind or shape of {name}")
            lost = _different_part(name, param, next(stored)[1])
            _expect(lost is None, str(lost))
        _expect(next(told, None) is None, "the names of the tensors")
        next(stored, None)  # the checksum


def verify_coded(path: Path, bundle: Bundle, proven: Mapping[str, list[Section]]) -> None:
    """As `verify`, where the sections of each tensor were decoded and compared before.

    The file must hold those bytes, so that they need not be decoded again.
    """
    with path.open("rb", BUFFER) as file:
        head, checksum = read_head(file, path.stat().st_size), 0
        _expect(head.arch.data == bundle.arch.data, "the architecture")
        _expect(head.lineage == bundle.lineage, "the recipe")
        _expect([name for name, *_ in head.tensors] == list(bundle.params), "the names of the tensors")
        for (name, about, codings), param in zip(head.tensors, bundle.params.values(), strict=True):
            listed = proven[name]
            _expect(about == description(param), f"kind or shape of {name}")
            _expect(codings == [coding for _, coding, _ in listed], f"the coders of {name}")
            for part, _, data in listed:
                _expect(file.read(len(data)) == data, f"{part} of {name}")
            checksum = add_checksum(param, checksum)
        _expect(checksum == head.checksum and not file.read(1), "the checksum or the length")


def check_decoded(name: str, param: Param, listed: list[Section]) -> None:
    """Decode the sections of a tensor. Raises PackError where they do not give it back, bit for bit."""
    kind, shape, *settings = description(param)
    with damage():
        codings, cuts = [coding for _, coding, _ in listed], (bytes(data) for *_, data in listed)
        back = of_kind(kind).from_sections(name, shape, settings, codings, cuts)
    lost = _different_part(name, param, back)
    _expect(lost is None, str(lost))


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise PackError(f"the packed file does not give the model back: {what}")


def _read_params(file: BinaryIO, head: Head) -> Iterator[tuple[str, Param]]:
    file.seek(head.body)
    cuts = (file.read(length) for length in head.lengths)
    checksum = 0
    with damage():
        for name, about, codings in head.tensors:
            kind, shape, *settings = about
            param = of_kind(kind).from_sections(name, shape, settings, codings, cuts)
            checksum = add_checksum(param, checksum)
            yield name, param
    if checksum != head.checksum:
        raise PackError("this .slim file is damaged: the checksum of its tensors differs")


# ---------------------------------------------------------------- compared


def difference(one: Bundle, other: Bundle) -> str | None:
    """The first thing in which two bundles differ, or None: architecture, recipe, every tensor's bits.

    >>> from engine.tensor.formats import Dense
    >>> from engine.types import Arch
    >>> one, other = (Bundle(Arch("bare"), {"w": Dense(torch.tensor([zero]))}) for zero in (0.0, -0.0))
    >>> difference(one, one), difference(one, other)
    (None, 'values of w')
    """
    if one.arch.data != other.arch.data:
        return "the architecture"
    if one.lineage != other.lineage:
        return "the recipe"
    if list(one.params) != list(other.params):
        return "the names of the tensors"
    for name, param in one.params.items():
        if description(param) != description(other.params[name]):
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
