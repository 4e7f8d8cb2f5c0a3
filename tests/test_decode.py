"""`slimscope decode`: the tensors of a .slim file, bit for bit, as safetensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine import cli
from engine.file import packfile
from engine.tensor.formats import AffineGrid, Dense
from engine.tensor.granularity import per_axis
from engine.types import Arch, Bundle


def packed(folder: Path) -> tuple[Path, Bundle]:
    codes = torch.randint(-7, 8, (20, 30), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    grid = AffineGrid(codes, torch.rand(20) + 0.1, torch.zeros(20, dtype=torch.int32), 4, per_axis(0))
    bundle = Bundle(Arch("bare"), {"w": grid, "b": Dense(torch.randn(20))})
    path = folder / "net.slim"
    path.write_bytes(packfile.pack(bundle))
    return path, bundle


def test_decoded_tensors_are_the_packed_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, bundle = packed(tmp_path)
    cli.main(["decode", str(path)])
    found = load_file(tmp_path / "net.safetensors")
    assert found.keys() == bundle.params.keys()
    assert all(torch.equal(found[name], values) for name, values in bundle.decoded().items())
    assert "2 tensors" in capsys.readouterr().out


def test_where_nothing_can_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = packed(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(["decode", str(path), "--out", str(tmp_path / "none" / "net.safetensors")])
    assert caught.value.code == 2
    assert "which is no folder" in capsys.readouterr().err


def test_a_file_that_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = packed(tmp_path)
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(SystemExit):
        cli.main(["decode", str(path)])
    assert out.read_bytes() == b"mine"
    assert "name another file with --out" in capsys.readouterr().err


def test_what_is_no_slim_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.slim"
    path.write_bytes(b"PK")
    with pytest.raises(SystemExit):
        cli.main(["decode", str(path), "--out", str(tmp_path / "out.safetensors")])
    assert "does not start with SLIM" in capsys.readouterr().err
