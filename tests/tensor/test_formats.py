"""Formats know all of themselves: what every one of them promises, and what adding one takes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.figures import theory
from engine.file import packfile
from engine.file.packfile import PackError
from engine.tensor import codes, formats
from engine.tensor.codes.coder import Option
from engine.tensor.codes.counts import Counted
from engine.tensor.formats import FORMATS, AffineGrid, Codebook, Dense, Levels, Product, Rows, Scaled, Shifted
from engine.tensor.formats.numbers import numbers, raw, read_floats
from engine.tensor.granularity import Granularity, per_axis, per_block, per_group
from engine.types import Arch, Bundle, FormatError, Param, Section

VALUES = torch.tensor([[1.0, -2.0, 0.0, 4.0], [0.5, 0.0, 3.0, -1.0], [2.0, 2.0, -4.0, 0.0]])
CODES = VALUES.to(torch.int32)
EACH: dict[str, Param] = {
    "dense": Dense(VALUES),
    "grid": AffineGrid(
        CODES, torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1, 0, -1], dtype=torch.int32), 4, per_axis(0)
    ),
    "grid in groups": AffineGrid(
        CODES, torch.arange(1.0, 7.0), torch.zeros(6, dtype=torch.int32), 4, per_group(2)
    ),
    "grid in blocks": AffineGrid(
        CODES, torch.arange(1.0, 5.0), torch.ones(4, dtype=torch.int32), 4, per_block(2, 2)
    ),
    "levels": Levels.of(VALUES, "nf4", per_axis(0)),
    "levels in blocks": Levels.of(VALUES, "mxfp4", per_block(2, 2)),
    "levels without scales": Levels.of(VALUES, "fp16"),
    "rows": Rows(
        torch.tensor([[1, -2, 0, 1], [3, 2, -3, -4], [7, 7, -8, 0]], dtype=torch.int32),
        torch.tensor([2, 3, 4], dtype=torch.int32),
        torch.tensor([0.5, 1.0, 2.0]),
        torch.tensor([0.25, 0.0, -1.0]),
    ),
    "scaled": Scaled(
        AffineGrid(
            CODES, torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1, 0, -1], dtype=torch.int32), 4, per_axis(0)
        ),
        torch.tensor([0.5, 3.0, 0.125, 7.0]),
    ),
    "scaled in groups": Scaled(
        AffineGrid(CODES, torch.arange(1.0, 7.0), torch.zeros(6, dtype=torch.int32), 4, per_group(2)),
        torch.tensor([0.5, 3.0, 0.125, 7.0]),
    ),
    "shifted": Shifted(
        CODES.clamp(0, 3), torch.tensor([0.5, 1.0, 2.0]), torch.tensor([100, 7, 255]).int(), 2, per_axis(0)
    ),
    "shifted in groups": Shifted(
        CODES.clamp(0, 4), torch.arange(1.0, 7.0), torch.arange(6).int(), 2, per_group(2)
    ),
    "book": Codebook(CODES.abs(), torch.tensor([3.0, -1.0, 0.5, 0.25, 7.0])),
    "product": Product(torch.tensor([1, 0, 1, 1, 0, 2], dtype=torch.int32), torch.randn(3, 2), (3, 4)),
    "product with zeros": Product(
        torch.tensor([1, 0, 1, 1, 0, 2], dtype=torch.int32), torch.randn(3, 2), (3, 4)
    ).masked(VALUES != 0),
}
KEPT = torch.tensor([[True, False, True, True], [False, True, True, False], [True, True, False, True]])


@pytest.mark.parametrize("name", EACH)
def test_masked_is_the_decoded_values_with_zeros_in_its_own_format(name: str) -> None:
    param = EACH[name]
    after = param.masked(KEPT)
    assert type(after) is type(param)
    assert torch.equal(after.decode(), torch.where(KEPT, param.decode(), 0.0))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", EACH)
def test_take_commutes_with_decode(name: str, axis: int) -> None:
    param, stays = EACH[name], torch.tensor([0, 2])
    after = param.take(axis, stays)
    assert torch.equal(after.decode(), param.decode().index_select(axis, stays))
    along = ("grid in groups", "scaled in groups", "shifted in groups", "product", "product with zeros")
    broken = name.endswith("in blocks") or (name in along and axis == 1)  # tiles lose members
    assert type(after) is (Dense if broken else type(param))


@pytest.mark.parametrize("name", EACH)
def test_sections_read_back_bit_for_bit(name: str) -> None:
    param = EACH[name]
    param.check("w")
    sections = param.sections()
    cuts = (bytes(data) for *_, data in sections)
    codings = [coding for _, coding, _ in sections]
    again = type(param).from_sections("w", list(param.shape), param.settings(), codings, cuts)
    assert again.settings() == param.settings()
    for mine, theirs in zip(param.tensors().values(), again.tensors().values(), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(FormatError, match="unknown kind"):
        type(param).from_sections("w", [3, 4], param.settings(), ["riddle"], iter([b""]))


@pytest.mark.parametrize("name", EACH)
def test_entropy_is_at_most_huffman_is_at_most_what_was_counted(name: str) -> None:
    param = EACH[name]
    assert 0 < param.entropy_bits() <= param.huffman_bits()


@dataclass(frozen=True, eq=False)
class Half(Param):
    """16-bit floats, as somebody might add them."""

    kind: ClassVar[str] = "half"
    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def decode(self) -> Tensor:
        return self.values.to(torch.float16).to(torch.float32)

    def tensors(self) -> dict[str, Tensor]:
        return {"values": self.decode()}

    def with_zeros(self, kept: Tensor) -> "Half":
        return Half(torch.where(kept, self.values, 0.0))

    def take(self, axis: int, stays: Tensor) -> "Half":
        return Half(self.values.index_select(axis, stays))

    def fixed_bits(self) -> int:
        return 16 * self.values.numel()

    huffman_bits = fixed_bits
    entropy_bits = fixed_bits

    def sections(self) -> list[Section]:
        return [("values", "raw", raw(numbers(self.values.to(torch.float16))))]

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> "Half":
        half = torch.frombuffer(bytearray(next(cuts)), dtype=torch.float16)
        return cls(half.to(torch.float32).reshape(shape))


@dataclass(frozen=True, eq=False)
class Shared(Param):
    """Blocks of the matrix that share a power of two, with 4-bit mantissas, as somebody might add them."""

    kind: ClassVar[str] = "shared exponents"
    mantissas: Tensor
    exponents: Tensor  # one for each block, flat
    block: Granularity

    @classmethod
    def of(cls, values: Tensor, block: Granularity) -> "Shared":
        largest = torch.ones(math.prod(block.tiles(values.shape)))
        for numbers_, tiles in block.cut(values):
            largest[numbers_] = tiles.abs().amax(1)
        exponents = torch.floor(torch.log2(largest)) - 2
        steps = values / block.over(torch.exp2(exponents), values.shape)
        mantissas = torch.round(steps).clamp(-7, 7) + 0.0  # no negative zeros
        return cls(mantissas, exponents, block)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mantissas.shape)

    def decode(self) -> Tensor:
        return self.mantissas * self.block.over(torch.exp2(self.exponents), self.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"mantissas": self.mantissas, "exponents": self.exponents}

    def settings(self) -> list[Any]:
        return [self.block.data]

    def check(self, name: str) -> None:
        self.block.check(repr(name), self.shape)

    def with_zeros(self, kept: Tensor) -> "Shared":
        return replace(self, mantissas=torch.where(kept, self.mantissas, 0.0))

    def take(self, axis: int, stays: Tensor) -> Param:
        return Dense(self.decode().index_select(axis, stays))  # blocks would break

    def fixed_bits(self) -> int:
        return 4 * self.mantissas.numel() + 8 * self.exponents.numel()

    huffman_bits = fixed_bits
    entropy_bits = fixed_bits

    def sections(self) -> list[Section]:
        parts = self.tensors().items()
        return [(part, *codes.encode(numbers(tensor.to(torch.int32)))) for part, tensor in parts]

    @classmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> "Shared":
        block = Granularity.from_data(*settings)
        block.check(repr(name), shape)
        counts = (math.prod(shape), math.prod(block.tiles(shape)))
        mantissas, exponents = (
            torch.from_numpy(codes.decode(coding, next(cuts), count)).float()
            for coding, count in zip(codings, counts, strict=True)
        )
        return cls(mantissas.reshape(shape), exponents, block)


def added() -> Bundle:
    blocks = Shared.of(torch.randn(10, 3, 2, 2, generator=torch.Generator().manual_seed(0)), per_block(4, 5))
    return Bundle(Arch("bare"), {"w": Half(VALUES / 3), "b": Dense(torch.ones(3)), "blocks": blocks})


def test_new_formats_are_one_class_each_and_their_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "half", Half)
    monkeypatch.setitem(FORMATS, "shared exponents", Shared)
    bundle = added()
    again = packfile.unpack(packfile.pack(bundle))
    assert isinstance(again.params["w"], Half)
    assert isinstance(again.params["blocks"], Shared)
    assert again.params["blocks"].block == per_block(4, 5)
    assert packfile.difference(bundle, again) is None
    packed = next(figure for figure in theory.ledger(bundle) if figure.name == "packed bits + scales")
    assert packed.value == 12 * 2 + 3 * 4 + (120 * 4 + 9 * 8) // 8  # 10 x 12 in blocks of 4 x 5: 3 x 3


def test_shared_exponents_by_hand() -> None:
    values = torch.tensor([[4.0, 1.0, 0.5], [-3.0, 2.0, 0.25]])
    param = Shared.of(values, per_block(2, 2))
    assert param.exponents.tolist() == [0.0, -3.0]
    assert torch.equal(param.decode(), values)
    gone = param.masked(values > 0)
    assert torch.equal(gone.decode(), values.clamp(min=0))


@pytest.mark.parametrize("kept", [["half"], ["shared exponents"]])
def test_a_file_with_a_format_of_later_names_it(kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    new = {"half": Half, "shared exponents": Shared}
    with monkeypatch.context() as later:
        for kind, format in new.items():
            later.setitem(FORMATS, kind, format)
        data = packfile.pack(added())
    for kind in kept:
        monkeypatch.setitem(FORMATS, kind, new[kind])
    (missing,) = set(new) - set(kept)
    with pytest.raises(
        PackError, match=rf"^this file uses format '{missing}', which this version does not know$"
    ):
        packfile.unpack(data)


def test_a_new_coder_is_one_entry_and_a_file_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of equal symbols as (symbol, length): shorter than all others where there are few runs."""

    def options(view: Counted) -> list[Option]:
        stream = view.alphabet[view.places]
        starts = np.flatnonzero(np.diff(stream, prepend=stream[:1] - 1)) if len(stream) else []
        runs = np.stack([stream[starts], np.diff(starts, append=len(stream))])
        return [(0.0, "runs", lambda: runs.astype("<i4").tobytes())]

    def read(data: bytes, count: int) -> codes.Ints:
        symbols, lengths = np.frombuffer(data, "<i4").reshape(2, -1)
        return np.repeat(symbols, lengths).astype(np.int64)

    table = torch.tensor([0.5, 1.0, 2.0])
    in_runs = Codebook(torch.arange(3, dtype=torch.int32).repeat_interleave(1000).reshape(30, 100), table)
    bundle = Bundle(Arch("bare"), {"w": in_runs, "b": Dense(torch.ones(3))})
    with monkeypatch.context() as later:
        later.delitem(codes.CODERS, "context")  # it takes fewer bytes still
        later.setitem(codes.CODERS, "runs", codes.Coder("runs", options, read))
        data = packfile.pack(bundle)
        assert packfile.sections(bundle).query("part == 'codes'")["coding"].tolist() == ["runs"]
        assert packfile.difference(packfile.unpack(data), bundle) is None
    with pytest.raises(PackError, match=r"^this file uses coder 'runs', which this version does not know$"):
        packfile.unpack(data)


@pytest.mark.parametrize("kind", ["pickle", None, 3, ["dense"]])
def test_an_unknown_format_is_named(kind: object) -> None:
    with pytest.raises(FormatError, match=r"is not known to this version; it knows dense, grid, book"):
        formats.of_kind(kind)


def test_bytes_that_are_too_few_are_refused() -> None:
    with pytest.raises(FormatError, match="3 32-bit numbers take 12 bytes, not 8"):
        read_floats("raw", bytes(8), 3)
