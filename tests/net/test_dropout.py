"""Dropout whose masks a checkpoint knows: scaled by hand, shares of zeros, and gone on with."""

import pytest
import torch

from engine.net.train.dropout import SeededDropout


def test_a_share_is_zero_and_the_rest_is_scaled() -> None:
    layer, x = SeededDropout(0.2, seed=1), torch.ones(100, 1000)
    y = layer(x)
    assert set(y.unique().tolist()) == {0.0, 1.25}  # 1 / (1 - 0.2)
    assert float((y == 0).float().mean()) == pytest.approx(0.2, abs=5e-3)  # four deviations of 100,000 draws
    assert torch.equal(layer.eval()(x), x)


def test_a_loaded_layer_goes_on_with_the_same_masks() -> None:
    x, first, other = torch.ones(4, 50), SeededDropout(0.5, seed=3), SeededDropout(0.5, seed=3)
    one, two = first(x), first(x)
    assert not torch.equal(one, two)
    other(x)
    again = SeededDropout(0.5, seed=3)
    again.load_state_dict(other.state_dict())
    assert torch.equal(again(x), two)
    assert not torch.equal(SeededDropout(0.5, seed=4)(x), one)
