"""Files of version 1 are read for good: tensors, architecture and recipe as they were when they were written.

The files hold every format (dense, affine grids of each granularity, shared values), every coding of that
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
from engine.net import zoo
from engine.recipe import migrate
from engine.types import Arch, Recipe

FOLDER = Path(__file__).parent / "version1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_version_1_is_read_bit_for_bit(name: str) -> None:
    data, expected = (FOLDER / f"{name}.slim").read_bytes(), EXPECTED[name]
    assert (data[4], len(data)) == (1, expected["bytes"])
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


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_streamed_and_written_again_in_fewer_bytes(name: str, tmp_path: Path) -> None:
    bundle = packfile.unpack((FOLDER / f"{name}.slim").read_bytes())
    arch, lineage, params = packfile.read(FOLDER / f"{name}.slim")
    packfile.write(tmp_path / "again.slim", arch, lineage, params)
    again = (tmp_path / "again.slim").read_bytes()
    assert packfile.difference(packfile.unpack(again), bundle) is None
    assert again[4] == packfile.VERSION > 1
    assert len(again) < EXPECTED[name]["bytes"]


def test_the_files_hold_every_format_and_every_coding() -> None:
    codings = {coding for told in EXPECTED.values() for coding in told["codings"]}
    steps = {f"steps {coder}" for coder in ("packed", "entropy", "sparse")}
    assert codings == {"raw", "survivors", "packed", "entropy", "sparse", *steps}
    kinds = {told["kind"] for file in EXPECTED.values() for told in file["tensors"].values()}
    assert kinds == {"dense", "grid", "book"}


def test_edits_and_ties_are_rebuilt() -> None:
    edited = packfile.unpack((FOLDER / "edited.slim").read_bytes())
    assert zoo.build(edited)(torch.ones(2, 1, 28, 28)).shape == (2, 10)
    tied = packfile.unpack((FOLDER / "tied.slim").read_bytes()).state()
    assert torch.equal(tied["decoder.weight"], tied["embedding.weight"])
