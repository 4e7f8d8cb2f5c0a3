"""One tensor in all number systems: bytes by hand, and the order of what is lost."""

from __future__ import annotations

import pytest
import torch

from engine.tensor.formats import Levels
from engine.tensor.number_lines import NAMES, compared, ticks
from engine.tensor.number_systems import SYSTEMS


def test_bytes_and_losses_of_each_format() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    rows = compared(weight, "group", 64).set_index("layer")
    assert list(rows.index) == [SYSTEMS[name].title for name in NAMES]
    assert rows.loc["bf16", "bytes"] == 2 * 8192
    assert rows.loc["NF4", "bytes"] == 8192 // 2 + 4 * 128
    assert rows.loc["MXFP4", "bytes"] == 8192 // 2 + 256
    noise = rows["sqnr_db"]
    assert noise["fp16"] > noise["bf16"] > noise["MXINT8"] > noise["fp8 E4M3"] > noise["fp8 E5M2"]
    assert noise["fp8 E5M2"] > noise["NF4"] > noise["int4"] > noise["power of two"]


def test_ticks_are_the_levels_that_can_be_told_apart() -> None:
    weight = torch.tensor([[4.0, -1.0]])
    assert ticks(Levels.of(weight, "int4"), 4.0) == pytest.approx([n * 4 / 7 for n in range(-7, 8)])
    many = ticks(Levels.of(weight, "bf16"), 4.0)
    assert len(many) <= 801
    assert min(many) == -4.0
    assert max(many) == 4.0
