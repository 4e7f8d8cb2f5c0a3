"""Whether the processor multiplies in 16 bits, with and without a limit to its instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.net import processor
from engine.net.processor import has_bfloat16

ASK = """
import torch
from engine.net.processor import has_bfloat16
has = has_bfloat16()
lstm = torch.nn.LSTM(4, 4)
try:
    with torch.autocast("cpu", torch.bfloat16, enabled=has):
        lstm(torch.zeros(2, 1, 4))[0].sum().backward()
except RuntimeError as error:
    print(error)
print(has)
"""


def asked(**limits: str) -> str:
    words, environment = [sys.executable, "-c", ASK], {**os.environ, **limits}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_a_limit_without_16_bits_is_known_and_an_lstm_runs_all_the_same() -> None:
    assert asked(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2") == "False"


def test_an_lstm_runs_with_what_is_said_of_this_processor() -> None:
    assert asked() == str(has_bfloat16())


@pytest.mark.parametrize(
    ("flags", "multiplies", "said"),
    [
        ({"avx2", "avx512f", "avx512_vnni"}, True, "VNNI: one instruction"),
        ({"avx2", "avx_vnni"}, True, "VNNI: one instruction"),
        ({"avx2", "avx512f"}, False, "AVX-512 without VNNI"),
        ({"avx2"}, False, "AVX2 without VNNI"),
        ({"sse2"}, False, "neither VNNI nor AVX2"),
        ({"asimd", "asimddp"}, True, "dot-product instructions"),
        (set(), None, "instructions that nobody tells"),
    ],
)
def test_products_of_8_bit_codes_are_known_by_the_flags(
    flags: set[str], multiplies: bool | None, said: str
) -> None:
    assert processor.multiplies_bytes(frozenset(flags)) is multiplies
    assert processor.byte_instructions(frozenset(flags)).startswith(said)


def test_flags_are_read_where_linux_lists_them(monkeypatch, tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor : 0\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor : 1\nflags : fpu\n")
    for path, found in ((listed, {"fpu", "avx2", "avx_vnni"}), (tmp_path / "none", set())):
        processor.flags.cache_clear()
        monkeypatch.setattr(processor, "CPUINFO", path)
        assert processor.flags() == found
    processor.flags.cache_clear()


def test_without_onednn_there_are_none(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert has_bfloat16() is False
