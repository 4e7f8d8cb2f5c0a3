"""What is remembered of a tensor's bytes: encoded and decoded once, and never taken for another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.file import packfile
from engine.file.packfile import coded, reading
from engine.memory import MEMORY, size_of
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Arch, Bundle, Param


def grid(seed: int, bits: int = 4) -> AffineGrid:
    codes = torch.randint(0, 2**bits, (60, 50), generator=torch.Generator().manual_seed(seed)).to(torch.int32)
    return AffineGrid(codes, torch.ones(1), torch.zeros(1, dtype=torch.int32), bits)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Param]:
    """Every parameter that is encoded from now on."""
    MEMORY.clear()
    seen: list[Param] = []
    for kind in (Dense, AffineGrid):

        def spied(param: Param, plain: Callable[[Param], object] = kind.sections) -> object:
            seen.append(param)
            return plain(param)

        monkeypatch.setattr(kind, "sections", spied)
    return seen


def bundle(*params: Param) -> Bundle:
    return Bundle(Arch("bare"), {f"w{i}": param for i, param in enumerate(params)})


def test_only_the_tensor_that_changed_is_encoded_again(encoded: list[Param]) -> None:
    first, second, other = grid(0), grid(1), grid(2)
    before = packfile.size(bundle(first, second)).value
    assert packfile.sections(bundle(first, second))["bytes"].sum() == before
    assert encoded == [first, second]
    moved = bundle(grid(0), other)  # equal to the first, and not the same tensor
    assert len(packfile.pack(moved)) == packfile.size(moved).value
    assert encoded == [first, second, other]
    assert packfile.difference(packfile.unpack(packfile.pack(moved)), moved) is None


def test_tensors_that_differ_in_one_part_or_in_their_settings_are_told_apart(encoded: list[Param]) -> None:
    one = grid(0)
    others = [
        AffineGrid(one.codes, 2 * one.scale, one.zero, 4),
        AffineGrid(one.codes, one.scale, one.zero, 5),
        AffineGrid(one.codes.reshape(50, 60), one.scale, one.zero, 4),
        Dense(one.codes.view(torch.float32)),
    ]
    for param in (one, *others):
        assert coded.sections("w", param) == param.sections()
    assert len(encoded) == 2 * 5


def test_a_large_tensor_is_not_kept(encoded: list[Param], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded, "LARGEST", 100)
    for _ in range(2):
        packfile.size(bundle(grid(0)))
    assert len(encoded) == 2
    assert len(MEMORY) == 0


def test_bytes_of_sections_count_in_the_memory() -> None:
    assert size_of([("codes", "packed", b"12345")]) == 5


def test_a_file_with_other_bytes_than_those_that_were_decoded_is_refused(tmp_path: Path) -> None:
    MEMORY.clear()
    one, path = bundle(Dense(torch.randn(50, 50, generator=torch.Generator().manual_seed(0)))), tmp_path / "f"
    proven = {"w0": coded.proven("w0", one.params["w0"])}
    whole = packfile.pack(one)
    path.write_bytes(whole)
    reading.verify_coded(path, one, proven)
    for place in (-1, -5000):
        hurt = bytearray(whole)
        hurt[place] ^= 1
        path.write_bytes(bytes(hurt))
        with pytest.raises(packfile.PackError, match="does not give the model back: values of w0"):
            reading.verify_coded(path, one, proven)
    path.write_bytes(packfile.pack(bundle(Dense(torch.zeros(50, 50)))))
    with pytest.raises(packfile.PackError, match="does not give the model back"):
        reading.verify_coded(path, one, proven)
