"""Channels and filter pruning against torch-pruning (Fang 2023), which follows gradients instead of numbers.

Residual streams are left to our own tests: where a shortcut pads its input with zero channels on both sides,
torch-pruning 1.6 takes channel c of one stage for channel c of the next, and the padding shifts it.
"""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import count
from engine.net import channels, zoo
from engine.net.channels import Group
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.types import Bundle

NETS = ("lenet-300-100", "lenet-5", "vgg-small", "resnet-8", "resnet-20", "mlp-500-300")


def followed(net: nn.Module, inputs: Tensor) -> tp.DependencyGraph:
    return tp.DependencyGraph().build_dependency(net.requires_grad_(True), example_inputs=inputs)


def group_of(graph: tp.DependencyGraph, net: nn.Module, group: Group, picked: list[int]) -> tp.Group:
    layer = net.get_submodule(group.name)
    out = tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
    return graph.get_pruning_group(layer, out, idxs=picked)


def slices(net: nn.Module, group: tp.Group) -> set[tuple[str, int, int]]:
    """(parameter, axis, place) of all that the peer takes out together."""
    names = {id(module): name for name, module in net.named_modules()}
    found = set()
    for dependency, places in group:
        layer = dependency.target.module
        if id(layer) not in names:  # an operation without numbers of its own
            continue
        axis = int("_in_" in dependency.handler.__name__ and not isinstance(layer, nn.BatchNorm2d))
        numbers = {"weight"} if axis else {name for name, value in layer.state_dict().items() if value.dim()}
        found |= {(f"{names[id(layer)]}.{name}", axis, place) for name in numbers for place in places}
    return found


def open_groups(bundle: Bundle) -> dict[str, Group]:
    return {name: group for name, group in channels.groups(bundle).items() if not group.stream}


def source(name: str) -> sets.Data:
    return sets.load(zoo.entry(name).data)


def images(name: str, n: int = 8) -> Tensor:
    return source(name).test.inputs(slice(0, n))


@pytest.mark.parametrize("name", NETS)
def test_with_a_filter_go_the_slices_that_torch_pruning_takes_along(name: str) -> None:
    bundle = zoo.load(name)
    net = zoo.fork(bundle).eval()
    graph = followed(net, images(name, 1))
    known = open_groups(bundle)
    assert known
    for group in known.values():
        for channel in (0, group.channels // 2, group.channels - 1):
            ours = {
                (part.param, part.axis, place)
                for part in (*group.makes, *group.reads)
                for place in part.places(channel)
            }
            assert ours == slices(net, group_of(graph, net, group, [channel]))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_the_smallest_filters_are_those_that_torch_pruning_ranks_last(name: str, order: int) -> None:
    bundle = zoo.load(name)
    _, report = apply(bundle, step("prune_filters", removed=0.4, score=f"l{order}"), source(name))
    told = report.tables["filters"]
    net = zoo.fork(bundle).eval()
    graph = followed(net, images(name, 1))
    rank = tp.importance.GroupMagnitudeImportance(
        p=order, group_reduction="first", normalizer=None, bias=False
    )
    for label, group in open_groups(bundle).items():
        worth = rank(group_of(graph, net, group, list(range(group.channels))))
        gone = told.loc[(told["layer"] == label) & ~told["kept"], "filter"]
        last = torch.argsort(worth)[: round(0.4 * group.channels)]
        assert sorted(gone) == sorted(last.tolist())


@pytest.mark.parametrize("name", NETS)
def test_the_narrow_net_answers_as_the_one_that_torch_pruning_cuts(name: str) -> None:
    bundle, inputs = zoo.load(name), images(name)
    after, report = apply(bundle, step("prune_filters", removed=0.4), source(name))
    told = report.tables["filters"]
    net = zoo.fork(bundle).eval()
    for label, group in open_groups(bundle).items():
        gone = told.loc[(told["layer"] == label) & ~told["kept"], "filter"].tolist()
        group_of(followed(net, inputs[:1]), net, group, gone).prune()
    with torch.no_grad():
        theirs = net(inputs)
    assert torch.allclose(zoo.build(after)(inputs), theirs, atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in net.parameters()) == sum(
        after.params[name].decode().numel() for name, _ in net.named_parameters()
    )
    assert count.macs(after).value < count.macs(bundle).value
