"""Compiled loops where folders can't be written: kept at home, else in memory, and the same answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core import caching

from engine.tensor import codes, compiled
from engine.tensor.codes.contexts import model


def double(number):
    return 2 * number


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the package's folder nor the user's cache folder can be written."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.delenv("SLIMSCOPE_HOME", raising=False)


def test_code_is_kept_in_the_home_folder(
    read_only: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    assert compiled.compiled(double)(21) == 42
    assert list((tmp_path / "compiled").rglob("*.nbi"))
    assert compiled.numba.config.CACHE_DIR == ""


def test_code_is_in_memory_alone_where_no_folder_serves(
    read_only: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    for home in ("", str(tmp_path / "file")):
        monkeypatch.setenv("SLIMSCOPE_HOME", home)
        assert compiled.compiled(double)(21) == 42
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_process_reads_what_the_warm_up_compiled() -> None:
    codes.warm_up()
    assert model.run.signatures
    script = (
        "from engine.tensor import codes; from engine.tensor.codes.contexts import model, patterns;"
        "codes.warm_up(); print(*(sum(each.run.stats.cache_hits.values()) for each in (model, patterns)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "1"], "coding, plain and priced, and the coding of floats"


def test_after_the_warm_up_no_stream_compiles_again() -> None:
    codes.warm_up()
    before = len(model.run.signatures)
    symbols = np.random.default_rng(0).integers(0, 5, 4000)
    coder, data = codes.encode(symbols, 100)
    codes.CODERS["context"].decode(codes.CODERS["context"].options(codes.counted(symbols, 100))[0][2](), 4000)
    assert np.array_equal(codes.decode(coder, data, 4000), symbols)
    assert len(model.run.signatures) == before
