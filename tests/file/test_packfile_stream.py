"""A .slim file tensor by tensor: the bytes of `pack`, what was written comes back, nothing is left behind."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from test_packfile import BUNDLES

from engine.file import packfile
from engine.file.packfile import PackError, pack, read, unpack, verify, write, writing
from engine.file.packfile.head import squeezed
from engine.tensor.formats import AffineGrid, Codebook, Dense
from engine.types import Arch, Bundle, Param, Recipe, Step

BARE, EMPTY = Arch("bare"), Recipe()
ONE = torch.zeros(1, dtype=torch.int32)
PARAMS: dict[str, Param] = {
    "a": Dense(torch.eye(30)),
    "b": AffineGrid(torch.arange(12, dtype=torch.int32).reshape(3, 4), torch.ones(1), ONE, 4),
    "c": Codebook(torch.arange(12, dtype=torch.int32).reshape(3, 4) % 3, torch.tensor([0.0, -0.0, 2.0])),
    "d": Dense(torch.arange(5.0)),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.slim"


@given(BUNDLES)
@settings(max_examples=100, deadline=None)
def test_what_is_streamed_is_what_is_packed(bundle: Bundle) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.slim"
        table = write(path, bundle.arch, bundle.lineage, iter(bundle.params.items()))
        assert path.read_bytes() == pack(bundle)
        pd.testing.assert_frame_equal(table, packfile.sections(bundle))
        arch, lineage, params = read(path)
        assert packfile.difference(bundle, Bundle(arch, dict(params), None, lineage)) is None
        verify(path, bundle.arch, bundle.lineage, bundle.params.items())


def test_a_body_that_does_not_fit_into_memory_goes_through_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for spool, chunk in ((1, 7), (writing.SPOOL, writing.CHUNK)):
        monkeypatch.setattr(writing, "SPOOL", spool)
        monkeypatch.setattr(writing, "CHUNK", chunk)
        write(path, BARE, EMPTY, PARAMS.items())
        assert path.read_bytes() == pack(Bundle(BARE, PARAMS))


def test_the_size_of_a_large_net_is_that_of_its_streamed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle(BARE, PARAMS)
    length = len(pack(bundle))
    monkeypatch.setattr(writing, "SPOOL", 1)
    monkeypatch.setattr(writing, "AT_ONCE", 1)  # `pack` would refuse
    assert packfile.size(bundle).value == length


def test_a_parameter_is_let_go_before_the_one_after_the_next_is_made(path: Path) -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def params() -> Iterator[tuple[str, Param]]:
        for number in range(6):
            assert sum(ref() is not None for ref in made) <= 1
            values = torch.eye(8) * number
            made.append(weakref.ref(values))
            param = Dense(values)
            del values
            yield f"w{number}", param
            del param

    write(path, BARE, EMPTY, params())
    made.clear()
    verify(path, BARE, EMPTY, params())
    assert len(made) == 6


def test_an_architecture_may_be_known_last(path: Path) -> None:
    layers: list[str] = []

    def params() -> Iterator[tuple[str, Param]]:
        layers.append("fc1")
        yield "fc1.weight", PARAMS["a"]

    def arch() -> Arch:
        return Arch("mlp-32").edit("quantize_input", layer=layers[0], bits=8)

    write(path, arch, EMPTY, params())
    assert read(path)[0] == arch()
    assert path.read_bytes() == pack(Bundle(arch(), {"fc1.weight": PARAMS["a"]}))


@pytest.mark.parametrize("wrong", ["maker", "tensor", "name", "arch"])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(path: Path, wrong: str) -> None:
    path.write_bytes(b"old")

    def params() -> Iterator[tuple[str, Param]]:
        yield from PARAMS.items()
        if wrong == "maker":
            raise ValueError("no weights")
        if wrong == "tensor":
            yield "e", Dense(torch.zeros(2, dtype=torch.float64))
        if wrong == "name":
            yield "a", PARAMS["a"]

    def arch() -> Arch:
        if wrong == "arch":
            raise ValueError("no weights")
        return BARE

    messages = {"tensor": "values of 'e' are torch.float64", "name": "two tensors are called 'a'"}
    error = PackError if wrong in messages else ValueError
    with pytest.raises(error, match=messages.get(wrong, "no weights")):
        write(path, arch, EMPTY, params())
    assert [p.name for p in path.parent.iterdir()] == ["net.slim"]
    assert path.read_bytes() == b"old"


def test_a_copy_that_fails_leaves_no_litter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writing.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="disk full"):
        write(path, BARE, EMPTY, PARAMS.items())
    assert not list(path.parent.iterdir())


# ---------------------------------------------------------------- what differs


@pytest.mark.parametrize(
    ("arch", "lineage", "changes", "lost"),
    [
        (Arch("lenet-5"), EMPTY, {}, "the architecture"),
        (BARE, Recipe((Step("x"),)), {}, "the recipe"),
        (BARE, EMPTY, {"e": PARAMS["d"]}, "the names of the tensors"),
        (BARE, EMPTY, {"d": None}, "the names of the tensors"),
        (BARE, EMPTY, {"b": PARAMS["a"]}, "kind or shape of b"),
        (BARE, EMPTY, {"a": Dense(torch.eye(30).reshape(-1))}, "kind or shape of a"),
        (BARE, EMPTY, {"d": Dense(-torch.arange(5.0))}, "values of d"),
        (
            BARE,
            EMPTY,
            {"c": Codebook(PARAMS["c"].tensors()["codes"], torch.tensor([0.0, 0.0, 2.0]))},
            "table of c",
        ),
    ],
)
def test_the_first_difference_is_named(
    path: Path, arch: Arch, lineage: Recipe, changes: dict[str, Param | None], lost: str
) -> None:
    write(path, BARE, EMPTY, PARAMS.items())
    wanted = {n: p for n, p in (PARAMS | changes).items() if p is not None}
    with pytest.raises(PackError, match=f"does not give the model back: {lost}$"):
        verify(path, arch, lineage, wanted.items())


def test_what_the_wanted_parameters_raise_is_not_called_damage(path: Path) -> None:
    write(path, BARE, EMPTY, PARAMS.items())

    def params() -> Iterator[tuple[str, Param]]:
        yield "a", PARAMS["a"]
        raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        verify(path, BARE, EMPTY, params())


# ---------------------------------------------------------------- damage, and hostile files


def test_every_cut_is_refused(path: Path) -> None:
    write(path, BARE, EMPTY, PARAMS.items())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(PackError, match="slim file"):
            read(path)


def test_a_changed_tensor_fails_the_checksum_behind_the_last(path: Path) -> None:
    write(path, BARE, EMPTY, PARAMS.items())
    path.write_bytes(path.read_bytes()[:-1] + b"\x41")
    params = read(path)[2]
    assert [next(params)[0] for _ in PARAMS] == list(PARAMS)
    with pytest.raises(PackError, match="the checksum of its tensors differs"):
        next(params)


def test_a_wrong_checksum_alone_is_found_by_verify(path: Path) -> None:
    write(path, BARE, EMPTY, PARAMS.items())
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackError, match="the checksum of its tensors differs"):
        verify(path, BARE, EMPTY, PARAMS.items())


def announcing(*shapes: list[int]) -> bytes:
    """A small file that announces tensors of zeros."""
    names, tensors = [f"w{i}" for i in range(len(shapes))], [[0, shape] for shape in shapes]
    coded = [["packed", "raw"], tensors, [[0, 1]] * len(shapes), [5, 0] * len(shapes)]
    header = [["bare", []], [], names, ["dense"], *coded]
    packed = squeezed(json.dumps(header).encode())
    zeros = b"\0\2\0\1" + b"\0"  # an alphabet of the one symbol 0 takes no bits
    return packfile.PREFIX.pack(b"SLIM", packfile.VERSION, 0, len(packed)) + packed + zeros * len(shapes)


def test_small_files_with_large_tensors_are_refused_before_memory_is_taken(path: Path) -> None:
    path.write_bytes(announcing([1 << 14, 1 << 14]))
    with pytest.raises(PackError, match="announces 268,435,456 numbers: allowed are 134,217,728"):
        read(path)
    with pytest.raises(PackError, match="kind or shape of w0"):
        verify(path, BARE, EMPTY, [("w0", Dense(torch.zeros(2, 2)))])
    path.write_bytes(announcing(*[[1 << 13, 1 << 14]] * 9))
    with pytest.raises(PackError, match="announces 1,207,959,552 numbers: allowed are 1,073,741,824"):
        read(path, packfile.LARGEST_NET)


def test_large_nets_of_small_tensors_are_read_one_by_one_but_not_at_once(path: Path) -> None:
    path.write_bytes(announcing(*[[1 << 13, 1 << 13]] * 4))
    with pytest.raises(PackError, match="announces 268,435,456 numbers: allowed are 134,217,728"):
        unpack(path.read_bytes())
    assert read(path)[0] == BARE


def test_limits_are_for_one_tensor_or_for_all(path: Path) -> None:
    write(path, BARE, EMPTY, PARAMS.items())
    numbers = {"a": 900, "b": 13, "c": 15, "d": 5}  # scales and tables count, zero points do not
    unpack(path.read_bytes(), sum(numbers.values()))
    assert list(dict(read(path, numbers["a"])[2])) == list(numbers)
    with pytest.raises(PackError, match="announces 933 numbers: allowed are 932"):
        unpack(path.read_bytes(), 932)
    with pytest.raises(PackError, match="announces 900 numbers: allowed are 899"):
        read(path, 899)


def test_a_net_above_the_limit_of_files_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown: Iterator[tuple[str, Param]] = ((f"w{i}", Dense(torch.zeros(1).expand(1 << 29))) for i in range(3))
    monkeypatch.setattr(Dense, "sections", lambda param: [])
    monkeypatch.setattr(writing, "add_checksum", lambda param, checksum: 0)
    with pytest.raises(PackError, match="has 1,610,612,736 numbers or more: allowed are 1,073,741,824"):
        write(path, BARE, EMPTY, grown)
    assert not list(path.parent.iterdir())
