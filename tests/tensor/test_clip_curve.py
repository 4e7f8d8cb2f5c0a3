"""Round-off and clipping at every clip: by hand, and against rounding every weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tensor import grids
from engine.tensor.affine import code_range, stored_affine
from engine.tensor.calibrate import FRACTIONS
from engine.tensor.clip_curve import clip_at, clip_curve
from engine.tensor.sorted_index import SortedIndex

VALUES = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=60)


def by_hand(values: torch.Tensor, clip: float, bits: int, symmetric: bool) -> tuple[float, float]:
    """(round-off, clipping) of each weight by itself, as shares of the sum of squares."""
    low, high = (torch.tensor(clip * float(end), dtype=torch.float64) for end in values.aminmax())
    scale, zero = stored_affine(low, high, bits, symmetric)
    bottom, top = code_range(bits, symmetric)
    codes = ((values / scale).round() + zero).clamp(bottom, top)
    lost = ((codes - zero) * scale - values).double().square()
    ends = [float((end - zero) * scale) for end in (bottom, top)]
    outside = (values < ends[0]) | (values > ends[1])
    total = float(values.double().square().sum()) or 1.0
    return float(lost[~outside].sum()) / total, float(lost[outside].sum()) / total


@given(VALUES, st.integers(2, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_curve_is_what_rounding_every_weight_gives(
    values: list[float], bits: int, symmetric: bool
) -> None:
    weights = torch.tensor(values, dtype=torch.float32)
    curve = clip_curve(SortedIndex(weights), bits, symmetric)
    assert len(curve) == FRACTIONS
    for row in curve.iloc[[0, 36, 70, 99]].itertuples():
        expected = by_hand(weights, row.clip, bits, symmetric)
        assert (row.roundoff, row.clipping) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_without_a_clip_a_symmetric_grid_clips_nothing_and_the_parts_add_up() -> None:
    weights = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    curve = clip_curve(SortedIndex(weights), 3, True)
    assert curve["clipping"].iloc[-1] == pytest.approx(0, abs=1e-12)
    assert curve["clipping"].is_monotonic_decreasing
    assert curve["inside"].iloc[-1] == 1
    grid = grids.quantize(weights, 3, range="mse")
    both = curve["roundoff"] + curve["clipping"]
    roundoff, clipping = clip_at(SortedIndex(weights), float(grid.scale), 0, 3, True)
    assert roundoff + clipping == pytest.approx(
        float(both.min()), rel=1e-6
    )  # the range `mse` takes the least


def test_shares_inside_count_the_weights_that_are_not_zero() -> None:
    curve = clip_curve(SortedIndex(torch.tensor([0.0, 0.0, 0.5, -1.0, 2.0, -4.0])), 4, True)
    inside = dict(zip(np.round(curve["clip"], 2), curve["inside"], strict=True))
    assert [inside[clip] for clip in (0.1, 0.13, 0.25, 0.5, 1.0)] == [0.0, 0.25, 0.5, 0.75, 1.0]
