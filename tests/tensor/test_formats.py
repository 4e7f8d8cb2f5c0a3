"""Formats know all of themselves: what every one of them promises, and what adding one takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from engine.figures import theory
from engine.file import packfile
from engine.tensor import formats
from engine.tensor.formats import FORMATS, Book, Dense, Grid
from engine.tensor.formats.numbers import floats, numbers, raw
from engine.types import Arch, Bundle, FormatError, Param, Section

VALUES = torch.tensor([[1.0, -2.0, 0.0, 4.0], [0.5, 0.0, 3.0, -1.0], [2.0, 2.0, -4.0, 0.0]])
CODES = VALUES.to(torch.int32)
EACH: dict[str, Param] = {
    "dense": Dense(VALUES),
    "grid": Grid(CODES, torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1, 0, -1], dtype=torch.int32), 4, 0),
    "grid in groups": Grid(CODES, torch.arange(1.0, 7.0), torch.zeros(6, dtype=torch.int32), 4, 0, 2),
    "book": Book(CODES.abs(), torch.tensor([3.0, -1.0, 0.5, 0.25, 7.0])),
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
    broken = name == "grid in groups" and axis == 1  # a group that loses members keeps no grid
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

    def masked(self, kept: Tensor) -> "Half":
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


def test_a_new_format_is_one_class_and_its_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "half", Half)
    bundle = Bundle(Arch("bare"), {"w": Half(VALUES / 3), "b": Dense(torch.ones(3))})
    again = packfile.unpack(packfile.pack(bundle))
    assert isinstance(again.params["w"], Half)
    assert packfile.difference(bundle, again) is None
    assert "packed bits + scales" in {figure.name for figure in theory.ledger(bundle)}
    packed = next(figure for figure in theory.ledger(bundle) if figure.name == "packed bits + scales")
    assert packed.value == 12 * 2 + 3 * 4


@pytest.mark.parametrize("kind", ["pickle", None, 3, ["dense"]])
def test_an_unknown_format_is_named(kind: object) -> None:
    with pytest.raises(FormatError, match=r"unknown kind: .*; there are dense, grid, book"):
        formats.of_kind(kind)


def test_bytes_that_are_too_few_are_refused() -> None:
    with pytest.raises(FormatError, match="3 32-bit numbers take 12 bytes, not 8"):
        floats(bytes(8), 3)
