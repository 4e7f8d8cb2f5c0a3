"""Deep Compression's own coder: streams come back, files have it only when asked for, damage is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.file import packfile
from engine.tensor import codes
from engine.tensor.codes.bits import read_varints
from engine.tensor.codes.relative_index import RELATIVE
from engine.tensor.formats import Codebook
from engine.types import Arch, Bundle


def written(symbols: np.ndarray) -> bytes:
    ((_, _, make),) = RELATIVE.options(codes.counted(symbols))
    return make()


@given(st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, 7, -3]), min_size=2, max_size=400), st.integers(0, 9000))
@settings(max_examples=200, deadline=None)
def test_any_stream_of_two_symbols_or_more_comes_back(symbols: list[int], run: int) -> None:
    stream = np.array([*symbols, *[0] * run, 1, 0])
    assert RELATIVE.decode(written(stream), len(stream)).tolist() == stream.tolist()


def test_a_long_run_is_bridged_by_fillers() -> None:
    stream = np.zeros(20_000, np.int64)
    stream[[3, 19_000]] = 5
    (_, entries, _), _ = read_varints(written(stream), 3)
    assert entries == 2 + (19_000 - 3 - 1) // (1 << 12)  # the widest distance takes the fewest


def test_a_file_has_it_only_when_it_is_asked_for() -> None:
    numbers = np.random.default_rng(0).integers(0, 30, 5000)
    table = torch.tensor([0.0, 1.5, -2.0, 3.0])
    book = Codebook(
        torch.from_numpy(np.where(numbers < 4, numbers, 0)).to(torch.int32).reshape(50, 100), table
    )
    bundle = Bundle(Arch("bare"), {"w": book})
    plain = packfile.pack(bundle)
    with codes.only("relative"):
        asked = packfile.pack(bundle)
        assert "relative" in packfile.sections(bundle)["coding"].tolist()
    assert "relative" not in packfile.sections(bundle)["coding"].tolist()
    assert packfile.pack(bundle) == plain
    assert len(asked) > len(plain)
    assert packfile.difference(packfile.unpack(asked), bundle) is None
    with pytest.raises(codes.CodeError, match="unknown; there are packed"), codes.only("none"):
        pass


def test_damage_is_refused_or_gives_as_many_numbers() -> None:
    rng = np.random.default_rng(0)
    whole = written(np.where(rng.random(2000) < 0.1, rng.integers(1, 9, 2000), 0))
    for _ in range(1000):
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        try:
            assert len(RELATIVE.decode(bytes(data), 2000)) == 2000
        except codes.CodeError:
            continue
    for cut in range(len(whole)):
        with pytest.raises(codes.CodeError):
            RELATIVE.decode(whole[:cut], 2000)
