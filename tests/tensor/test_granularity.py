"""Granularity as a value: its tiles by hand, one rule for all kinds, and what strange data gives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.tensor.granularity import TENSOR, TOKEN, Granularity, per_axis, per_block, per_group
from engine.types import FormatError

WHOLE = st.integers(1, 5)
ANY = st.one_of(
    st.sampled_from([TENSOR, TOKEN]),
    st.builds(per_axis, st.integers(0, 2)),
    st.builds(per_group, WHOLE, st.none() | st.integers(0, 2)),
    st.builds(per_block, WHOLE, WHOLE),
)
SHAPES = st.lists(st.integers(1, 5), min_size=3, max_size=4).map(tuple)


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(float(math.prod(shape))).reshape(shape)


def test_tiles_by_hand() -> None:
    shape = (4, 2, 3)
    assert [g.tiles(shape) for g in (TENSOR, TOKEN, per_axis(1))] == [(1, 1), (8, 1), (2, 1)]
    assert per_group(4).tiles(shape) == (4, 2)
    assert per_group(7, None).tiles(shape) == (1, 4)
    assert per_block(3, 4).tiles(shape) == (2, 2)
    assert per_block(3, 4).over(numbered(4), shape)[:, :, 0].tolist() == [[0, 0]] * 3 + [[2, 2]]
    assert per_block(3, 4).over(numbered(4), shape)[0].tolist() == [[0, 0, 0], [0, 1, 1]]
    assert TOKEN.over(numbered(8), shape)[..., 2].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert per_axis(1).over(numbered(2), shape)[3].tolist() == [[0, 0, 0], [1, 1, 1]]


@given(ANY, SHAPES)
def test_a_tile_is_what_has_its_number(granularity: Granularity, shape: tuple[int, ...]) -> None:
    values, count = numbered(*shape), math.prod(granularity.tiles(shape))
    number = granularity.over(torch.arange(count), shape)
    assert number.shape == shape
    found = {int(n): tile for numbers, tiles in granularity.cut(values) for n, tile in zip(numbers, tiles)}  # noqa: B905
    assert sorted(found) == list(range(count))
    for n, tile in found.items():
        assert sorted(tile.tolist()) == sorted(values[number == n].tolist())
        assert torch.equal(granularity.members(values, n), tile)
    assert torch.equal(granularity.back(granularity.matrix(values), shape), values)


@given(ANY, SHAPES, st.integers(0, 2), st.data())
def test_what_is_taken_along_is_what_its_numbers_had(
    granularity: Granularity, shape: tuple[int, ...], axis: int, data: st.DataObject
) -> None:
    stays = torch.tensor(sorted(data.draw(st.sets(st.integers(0, shape[axis] - 1), min_size=1))))
    shared = torch.randn(math.prod(granularity.tiles(shape)))
    taken = granularity.take(shared, shape, axis, stays)
    if taken is None:
        assert granularity.kind in ("group", "block")
        return
    left = (*shape[:axis], len(stays), *shape[axis + 1 :])
    expected = granularity.over(shared, shape).index_select(axis, stays)
    assert torch.equal(granularity.over(taken, left), expected)


@given(ANY)
def test_it_is_read_back_from_data(granularity: Granularity) -> None:
    assert Granularity.from_data(granularity.data) == granularity


@pytest.mark.parametrize(
    "raw",
    [
        *(None, [], "token", {"axis": 0}, ["tensor", 0], ["axis"], ["axis", True], ["axis", -1]),
        *(["axis", 0.0], ["group", 0], ["group", "0", 3], ["group", None, 1 << 31], ["block", 2]),
        ["cube", 2, 2, 2],
    ],
)
def test_other_data_is_refused(raw: object) -> None:
    with pytest.raises(FormatError, match=r"a granularity is .*: allowed are tensor, token, axis, group and"):
        Granularity.from_data(raw)


@pytest.mark.parametrize(
    ("granularity", "says"),
    [
        (per_axis(2), r"'w' of shape \(2, 3\) has no axis 2"),
        (per_group(3, 2), "has no groups of 3 along axis 2"),
        (per_group(0), "has no groups of 0 along axis 0"),
        (per_block(0, 4), "has no blocks of 0 x 4"),
    ],
)
def test_what_does_not_fit_a_shape_is_refused(granularity: Granularity, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        granularity.check("'w'", (2, 3))
    with pytest.raises(FormatError, match=r"of shape \(\) has no tokens"):
        TOKEN.check("'w'", ())
