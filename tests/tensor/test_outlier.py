"""One weight dragged out: steps grow where it shares a scale, and nowhere else."""

import pytest
import torch

from engine.tensor import grids, outlier


def weight() -> torch.Tensor:
    return torch.randn(8, 32, generator=torch.Generator().manual_seed(0))


def test_a_layer_by_hand() -> None:
    """In 3 symmetric bits: 3 twice as large makes the step 2, and 1 is rounded to 0."""
    values = torch.tensor([[3.0, 1.0, 2.0, 1.0]])
    table = outlier.costs(values, [1.0, 2.0], 3, True, 2).set_index(["times", "one_scale_per"])
    assert table["step"].tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert table["sharing"].tolist() == [3, 3, 1, 3, 3, 1]
    assert table.loc[(1.0, "tensor"), "levels_used"] == 2
    assert table.loc[(2.0, "tensor"), "levels"] == 7
    assert table.loc[(2.0, "tensor"), "sqnr_db"] == pytest.approx(grids.decibels(1 + 4 + 1, 2.0))
    assert table.loc[(2.0, "group"), "levels_used"] == 1


def test_the_finer_the_scales_the_less_an_outlier_costs() -> None:
    table = outlier.costs(weight(), [1.0, 8.0, 64.0], 4, True, 8)
    for word in outlier.GRANULARITIES:
        noise = table[table["one_scale_per"] == word]["sqnr_db"].tolist()
        assert noise == sorted(noise, reverse=True)
    worst = table[table["times"] == 64.0]["sqnr_db"].tolist()
    assert worst == sorted(worst)
    assert table.iloc[-3]["levels_used"] == 1  # all others of the layer are zero


def test_without_a_move_it_is_what_rounding_gives() -> None:
    values = weight()
    moved, place = outlier.stretched(values, 1.0)
    assert torch.equal(moved, values)
    assert abs(float(values.flatten()[place])) == float(values.abs().max())
    row = outlier.costs(values, [1.0], 4, True, 8).iloc[0]
    assert row["step"] == pytest.approx(float(values.abs().max()) / 7)
