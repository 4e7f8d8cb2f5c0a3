"""Whether the processor multiplies in 16 bits, with and without a limit to its instructions."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

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


def test_without_onednn_there_are_none(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert has_bfloat16() is False
