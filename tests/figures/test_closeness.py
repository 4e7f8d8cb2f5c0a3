"""Relative errors of weights against sums done by hand."""

from __future__ import annotations

import pytest
import torch

from engine.figures.closeness import relative_errors
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle


def test_errors_are_shares_of_the_originals_norm_and_replaced_layers_have_none() -> None:
    first = Bundle(
        Arch("bare"),
        {
            "a.weight": Dense(torch.tensor([[3.0, 4.0]])),
            "b.weight": Dense(torch.ones(2, 2)),
            "c.weight": Dense(torch.zeros(2, 2)),
            "d.weight": Dense(torch.ones(2, 2)),
        },
    )
    changed = {
        **first.params,
        "a.weight": Dense(torch.tensor([[0.0, 4.0]])),
        "d.weight": Dense(torch.ones(1, 2)),
    }
    assert relative_errors(first.become(changed)) == pytest.approx({"a": 3 / 5, "b": 0.0})
