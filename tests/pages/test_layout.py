"""The picture of a model: no boxes overlap, values flow onward, and no line runs through a box."""

from __future__ import annotations

import functools
import math
from itertools import combinations, pairwise

import own_models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import user, user_parts
from engine.net import anatomy, sources, zoo
from engine.net.anatomy import Anatomy, Edge, Node
from engine.types import Arch
from pages.parts.anatomy.columns import ranks
from pages.parts.anatomy.layout import Box, Layout, in_one_line, laid_out
from pages.parts.anatomy.sizes import LARGE, MEDIUM, SMALL

WIDTHS = (900, 700, 340)


def own(kind: str) -> Anatomy:
    return anatomy.of(
        sources.adopt(own_models.model(kind), user_parts.task_of(own_models.parts(kind), "own"))[0]
    )


@functools.cache
def deep() -> Anatomy:
    """ResNet-110, of which nobody ships weights."""
    arch = Arch("resnet-110")
    return anatomy.of(sources.bundle_of(arch, zoo.blank(arch).state_dict()))


def crosses(one: tuple[float, float], other: tuple[float, float], box: Box) -> bool:
    """Whether a line from corner to corner runs through the inside of a box; lines end at boxes."""
    steps = max(2, int(math.dist(one, other)))
    for step in range(steps + 1):
        x, y = (a + (b - a) * step / steps for a, b in zip(one, other, strict=True))
        if box.x + 1 < x < box.right - 1 and box.y + 1 < y < box.y + box.height - 1:
            return True
    return False


def assert_readable(found: Anatomy, drawn: Layout) -> None:
    assert drawn.boxes.keys() == {node.name for node in found.nodes}
    for one, other in combinations(drawn.boxes.values(), 2):
        apart = one.right <= other.x or other.right <= one.x
        assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y
    for box in drawn.boxes.values():
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= drawn.width
        assert box.y + box.height <= drawn.height
    assert len(drawn.paths) == len(found.edges)
    for path in drawn.paths:
        assert all(0 <= x <= drawn.width + 10 and 0 <= y <= drawn.height for x, y in path.points)
        for one, other in pairwise(path.points):
            assert not any(crosses(one, other, box) for box in drawn.boxes.values())


@pytest.mark.parametrize("across", WIDTHS)
@pytest.mark.parametrize("name", ["lenet-300-100", "resnet-20", "vgg-small", "lstm-mnist"])
def test_the_zoos_models_are_readable_at_every_width(name: str, across: int) -> None:
    found = anatomy.of(zoo.initial(name))
    drawn = laid_out(found, across)
    assert_readable(found, drawn)
    assert drawn.width <= across


@pytest.mark.parametrize("kind", ["transformer", "branches", "GRU"])
def test_models_of_users_are_readable(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    found = own(kind)
    for across in WIDTHS:
        assert_readable(found, laid_out(found, across))


def test_more_than_a_hundred_layers_fit_into_a_field_in_smaller_boxes() -> None:
    found = deep()
    drawn = laid_out(found, 900)
    assert len(found.layers) == 110
    assert drawn.boxes["conv1"][2:] == SMALL.layer
    assert (drawn.width <= 900, drawn.height <= 420) == (True, True)
    assert_readable(found, drawn)


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet-20", "lstm-mnist"])
def test_one_line_is_slim_and_fits(name: str) -> None:
    found = anatomy.of(zoo.initial(name))
    drawn = in_one_line(found, 900)
    assert_readable(found, drawn)
    assert drawn.width <= 900
    assert drawn.height < 70


def test_a_residual_model_by_hand() -> None:
    found = anatomy.of(zoo.initial("resnet-8"))
    order = ranks(found)
    assert [order[name] for name in ("input", "conv1", "layer1.0.conv1", "layer1.0.conv2", "sum 1")] == [
        *range(5)
    ]
    drawn = laid_out(found, 2000)
    assert [h.text for h in drawn.headings] == ["layer1.0", "layer2.0", "layer3.0"]
    assert drawn.boxes["conv1"][2:] == LARGE.layer
    (over,) = [path for path in drawn.paths if (path.source, path.target) == ("conv1", "sum 1")]
    top = drawn.boxes["layer1.0.conv1"].y
    assert all(y <= top for _, y in over.points[1:-1])
    assert (over.points[0][0], over.points[-1][0]) == tuple(
        drawn.boxes[n].middle[0] for n in ("conv1", "sum 1")
    )
    assert laid_out(anatomy.of(zoo.initial("resnet-20")), 340).boxes["conv1"][2:] == MEDIUM.layer


def test_recurrent_weights_stand_beside_the_weights_of_the_input() -> None:
    found = anatomy.of(zoo.initial("lstm-mnist"))
    order, drawn = ranks(found), laid_out(found, 900)
    for level in (0, 1):
        both = [drawn.boxes[f"lstm.weight_{part}_l{level}"] for part in ("ih", "hh")]
        assert both[0].x == both[1].x
        assert order[f"lstm.weight_ih_l{level}"] == order[f"lstm.weight_hh_l{level}"] == 1 + level


@st.composite
def graphs(draw: st.DrawFn) -> Anatomy:
    """Any graph whose edges go onward, with nodes that nobody feeds or reads."""
    count = draw(st.integers(1, 14))
    roles = [draw(st.sampled_from(["layer", "sum"])) for _ in range(count)]
    nodes = [
        Node(
            f"{draw(st.sampled_from(['', 'a.', 'b.0.']))}{i}", role, "", layer="x" if role == "layer" else ""
        )
        for i, role in enumerate(roles)
    ]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=20, unique=True)) if pairs else []
    return Anatomy(tuple(nodes), tuple(Edge(nodes[i].name, nodes[j].name, j > i + 1) for i, j in chosen))


@given(graphs(), st.sampled_from(WIDTHS))
@settings(max_examples=60)
def test_any_graph_is_readable_and_flows_onward(found: Anatomy, across: int) -> None:
    order = ranks(found)
    assert all(order[edge.source] < order[edge.target] for edge in found.edges)
    assert_readable(found, laid_out(found, across))
