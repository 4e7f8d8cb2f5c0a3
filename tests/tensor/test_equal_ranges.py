"""Ranges of channels and the factors that make two of them equal."""

import torch

from engine.tensor import equalize


def test_the_factors_of_the_paper_make_both_ranges_their_geometric_mean() -> None:
    first = torch.tensor([[4.0, -1.0], [0.5, 0.25]])  # ranges of its rows: 4 and 0.5
    second = torch.tensor([[1.0, -8.0], [0.5, 2.0]])  # of its columns: 1 and 8
    factors = equalize.factors(equalize.ranges(first, 0, [0, 1]), equalize.ranges(second, 1, [0, 1]))
    assert factors.tolist() == [2.0, 0.25]
    made = equalize.scaled(first, 0, 1 / factors)
    read = equalize.scaled(second, 1, factors)
    assert equalize.ranges(made, 0, [0, 1]).tolist() == [2.0, 2.0]
    assert equalize.ranges(read, 1, [0, 1]).tolist() == [2.0, 2.0]
    x = torch.tensor([3.0, 5.0])
    assert torch.equal(read @ (made @ x).relu(), second @ (first @ x).relu())


def test_a_channel_of_a_flattened_image_has_the_range_of_all_its_places() -> None:
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5], [0.0, 1.0, -7.0, 1.0]])
    assert equalize.ranges(weight, 1, [0, 2], 2).tolist() == [3.0, 7.0]
    places = equalize.along([0, 2], 2, torch.tensor([2.0, 3.0]), 4)
    assert equalize.scaled(weight, 1, places).tolist() == [[2.0, -6.0, 6.0, 1.5], [0.0, 2.0, -21.0, 3.0]]


def test_channels_without_a_weight_stay_and_no_precision_is_lost_where_there_is_nothing() -> None:
    made, read = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    assert equalize.factors(made, read).tolist() == [1.0, 1.0, 1.0]
    assert equalize.precision(torch.zeros(3)) == 1.0
