"""Files of old versions are read for good: tensors, architecture and recipe as when they were written.

The files hold every format (dense, affine grids of each granularity, shared values), every coding of their
version, edits, ties and a lineage. `expected.json` has what the program that wrote them said of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.file import packfile
from engine.file.packfile.words import WORDS
from engine.net import zoo
from engine.recipe import migrate
from engine.types import Arch, Recipe

VERSIONS = (1, 2)
FOLDERS = {version: Path(__file__).parent / f"version{version}" for version in VERSIONS}
EXPECTED: dict[int, dict[str, dict[str, Any]]] = {
    version: json.loads((folder / "expected.json").read_text()) for version, folder in FOLDERS.items()
}
FILES = [(version, name) for version in VERSIONS for name in EXPECTED[version]]


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("version", "name"), FILES)
def test_an_old_file_is_read_bit_for_bit(version: int, name: str) -> None:
    data, expected = (FOLDERS[version] / f"{name}.slim").read_bytes(), EXPECTED[version][name]
    assert (data[4], len(data)) == (version, expected["bytes"])
    bundle = packfile.unpack(data)
    assert bundle.arch == Arch.from_data(expected["arch"])
    assert bundle.lineage == migrate.current(Recipe.from_key(json.dumps(expected["lineage"])))
    assert list(bundle.params) == list(expected["tensors"])
    for tensor, told in expected["tensors"].items():
        param = bundle.params[tensor]
        assert (param.kind, list(param.shape)) == (told["kind"], told["shape"])
        assert {part: digest(values) for part, values in param.tensors().items()} == told["parts"]
        assert digest(param.decode()) == told["values"]
    assert bundle.fingerprint == expected["fingerprint"]


@pytest.mark.parametrize(("version", "name"), FILES)
def test_it_is_streamed_and_written_again_in_fewer_bytes(version: int, name: str, tmp_path: Path) -> None:
    bundle = packfile.unpack((FOLDERS[version] / f"{name}.slim").read_bytes())
    arch, lineage, params = packfile.read(FOLDERS[version] / f"{name}.slim")
    packfile.write(tmp_path / "again.slim", arch, lineage, params)
    again = (tmp_path / "again.slim").read_bytes()
    assert packfile.difference(packfile.unpack(again), bundle) is None
    assert again[4] == packfile.VERSION > version
    assert len(again) < EXPECTED[version][name]["bytes"]


def codings(version: int) -> set[str]:
    return {coding for told in EXPECTED[version].values() for coding in told["codings"]}


def test_the_files_hold_every_format_and_every_coding() -> None:
    steps = {f"steps {coder}" for coder in ("packed", "entropy", "sparse")}
    assert codings(1) == {"raw", "survivors", "packed", "entropy", "sparse", *steps}
    assert codings(2) == {"raw", "packed", "entropy", "sparse", "context", *steps}
    for version in VERSIONS:
        files = EXPECTED[version].values()
        assert {told["kind"] for file in files for told in file["tensors"].values()} == {
            "dense",
            "grid",
            "book",
        }


@pytest.mark.parametrize("version", VERSIONS)
def test_edits_and_ties_are_rebuilt(version: int) -> None:
    edited = packfile.unpack((FOLDERS[version] / "edited.slim").read_bytes())
    assert zoo.build(edited)(torch.ones(2, 1, 28, 28)).shape == (2, 10)
    tied = packfile.unpack((FOLDERS[version] / "tied.slim").read_bytes()).state()
    assert torch.equal(tied["decoder.weight"], tied["embedding.weight"])


def test_the_words_that_headers_are_compressed_after_are_part_of_version_3() -> None:
    assert (packfile.VERSION, hashlib.sha256(WORDS).hexdigest()[:16]) == (3, "8a3f1bd9a36fb3ee")
