"""Layers that read channels which nothing else reads, and which of these each can best do without."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from engine.data import user_errors
from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import channels, kinds, zoo
from engine.net.channels import Group
from engine.net.walk import Goal, Products, Tracer, Walk, drawn_places, gathered, rows_at
from engine.tensor import lars
from engine.types import Arch, Bundle, SlimscopeError

POINTS = 10  # places of an image at most that a convolution is fitted at (He 2017)
CHECKED = 4  # for so many images that layers are fitted on, one more tells the error
BUDGET = 2e10  # units of work (`kinds.work`) that running the images once may cost
BATCH = 125  # images at once
CURVE = 8  # counts of channels on the curve of a layer's error
MOST = 0.95  # of the channels that may go
ALONE = threading.Lock()


@dataclass(frozen=True)
class Reader:
    """A layer, and the group of channels that it reads and nothing else does."""

    label: str
    group: Group
    width: int  # columns of its weight (outputs, inputs * kernel) that read one channel

    @property
    def weight(self) -> str:
        """The name of its weight."""
        return self.group.reads[0].param

    def columns(self, kept: Sequence[int]) -> Tensor:
        """Numbers of the columns that read these channels."""
        return (torch.tensor(kept)[:, None] * self.width + torch.arange(self.width)).flatten()


def readers_of(bundle: Bundle) -> list[Reader]:
    """Layers whose inputs can go, in the order of the net; the streams of shortcuts have many readers."""
    found, known, nodes = [], channels.groups(bundle), _layers_passed(bundle.arch.key)
    for group in known.values():
        if group.stream or len(group.reads) != 1:
            continue
        part = group.reads[0]
        shape, label = bundle.params[part.param].shape, part.param.removesuffix(".weight")
        if label in nodes and part.at == tuple(range(0, shape[1], part.block)):
            found.append(Reader(label, group, math.prod(shape[1:]) // group.channels))
    if known and not found:
        raise SlimscopeError(
            f"{bundle.arch.title} has no layer whose inputs can be chosen: shortcuts pass its channels on, "
            "or they are read inside of an attention block"
        )
    return found


@remembered
def _layers_passed(key: str) -> frozenset[str]:
    """The layers that can be fitted, and that the net passes once."""
    arch = Arch.from_key(key)
    net = zoo.skeleton(arch)
    with user_errors.own_errors(f"{arch.title} can't be run layer by layer"), ALONE:
        passed = Counter(n.target for n in Tracer().trace(net).nodes if n.op == "call_module")
    return frozenset(str(name) for name, count in passed.items() if count == 1 and _is_fitted(net, str(name)))


def _is_fitted(net: nn.Module, name: str) -> bool:
    layer = net.get_submodule(name)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def channels_left(total: int, removed: float) -> int:
    """How many of a layer's channels stay where a share is removed: at least one.

    >>> channels_left(20, 0.5), channels_left(20, 0.99)
    (10, 1)
    """
    kept = round(1 - removed, 10)  # as people write it: 1 - 0.7 is 0.3
    return max(1, round(kept * total))


# ---------------------------------------------------------------- the net before any layer is pruned


def narrow_walk(
    bundle: Bundle, start: Start, readers: Mapping[str, Reader], stays: Mapping[str, Sequence[int]]
) -> Walk:
    """A walk through the net without what will go: which channels stay is known ahead, weights are not."""
    narrow = channels.keep(bundle, {readers[label].group.name: stay for label, stay in stays.items()})
    walk = Walk(zoo.fork(narrow), start.graph, start.batches, start.at)
    first = next(iter(readers), "")
    if first in stays:  # the batches were brought there with all channels
        part = readers[first].group.reads[0]
        walk.narrow(first, torch.tensor([i for channel in stays[first] for i in part.places(channel)]))
    return walk


@dataclass(frozen=True, eq=False)
class Start:
    """What no choice of channels changes: batches as they reach the first reader, and all goals."""

    graph: fx.Graph
    at: int
    batches: list[dict[fx.Node, Tensor]]
    goals: Mapping[str, list[Goal]]
    fitted: int  # batches to fit on; the others check
    images: int  # that are fitted on
    ranks: Mapping[str, Rank]


@dataclass(frozen=True)
class Asked:
    """What a start depends on. Bundles are told apart by their fingerprint."""

    fingerprint: str
    by: str
    samples: int
    seed: int
    train: Samples
    bundle: Bundle = field(compare=False)


def start_of(bundle: Bundle, by: str, samples: int, seed: int, train: Samples) -> Start:
    """torch.fx traces one net at a time; and who comes second finds what the first has made."""
    with ALONE:
        return begin(Asked(bundle.fingerprint, by, samples, seed, train, bundle))


@remembered  # the net under the slider, and one more: up to about 90 MB each
def begin(asked: Asked) -> Start:
    """Run the net as it is, once: a slider that moves starts from here."""
    bundle, rng = asked.bundle, torch.Generator().manual_seed(asked.seed)
    readers = readers_of(bundle)
    labels = [reader.label for reader in readers]
    affordable = max(int(BUDGET / kinds.work(bundle)), asked.samples // POINTS)
    images = min(affordable, asked.samples, len(asked.train) * CHECKED // (CHECKED + 1))
    chosen = asked.train.stratified(images + max(images // CHECKED, 1))
    points = math.ceil(asked.samples / images)
    starts = [*range(0, images, BATCH), *range(images, len(chosen), BATCH)]
    net = zoo.fork(bundle)
    graph = Tracer().trace(net)
    goals: dict[str, list[Goal]] = {label: [] for label in labels}
    batches, at = [], 0
    for first, last in zip(starts, [*starts[1:], len(chosen)], strict=True):
        walk = Walk(net, graph, [{next(iter(graph.nodes)): chosen.inputs(slice(first, last))}], 1)
        for label in labels:
            layer, (inputs,) = walk.layer(label), walk.inputs(label)
            places = drawn_places(layer, inputs, min(points, POINTS), rng)
            outputs = rows_at(layer, inputs, places) @ layer.weight.detach().flatten(1).T
            goals[label].append(Goal(places, outputs))
            if label == labels[0]:
                batches.append(dict(walk.batches[0]))
                at = walk.at
    fitted = math.ceil(images / BATCH)
    walk = Walk(net, graph, batches, at)
    ranks = {}
    for reader in readers:
        products = gathered(walk, reader.label, goals[reader.label], fitted)
        weight = bundle.params[reader.weight].decode().flatten(1)
        ranks[reader.label] = rank_of(reader, weight, products, asked.by, rng)
    return Start(graph, at, batches, goals, fitted, images, ranks)


# ---------------------------------------------------------------- which channels of one layer stay


@dataclass(frozen=True, eq=False)
class Rank:
    """For each number of channels which ones stay; errors at a few numbers, this layer pruned alone."""

    supports: Sequence[Sequence[int]]
    curve: tuple[tuple[str, int, float, float, float], ...]


def rank_of(reader: Reader, weight: Tensor, products: Products, by: str, rng: torch.Generator) -> Rank:
    total = reader.group.channels
    supports, lambdas = supports_of(weight, products, total, by, rng)
    rows = []
    sizes = {channels_left(total, MOST), *(math.ceil(total * i / CURVE) for i in range(1, CURVE + 1))}
    for size in sorted(sizes):
        masked = spread(weight[:, reader.columns(supports[size])], reader, supports[size], weight)
        refitted = lars.refit(products.gram, products.cross, weight, supports[size], total)
        rows.append((reader.label, size, lambdas[size], products.error(masked), products.error(refitted)))
    return Rank(supports, tuple(rows))


def supports_of(
    weight: Tensor, products: Products, total: int, by: str, rng: torch.Generator
) -> tuple[Sequence[Sequence[int]], Sequence[float]]:
    """For each number of channels which ones stay, and the lambda at which they do (NaN without LASSO)."""
    if by == "lasso":
        path = lars.path(*lars.of_channels(products.gram, products.cross, weight, total))
        return path.supports, path.first
    if by == "largest":
        sizes = weight.double().abs().view(len(weight), total, -1).sum((0, 2))
        order = torch.argsort(sizes, descending=True, stable=True).tolist()
    else:
        order = torch.randperm(total, generator=rng).tolist()
    return [tuple(sorted(order[:size])) for size in range(total + 1)], [math.nan] * (total + 1)


def spread(own: Tensor, reader: Reader, stay: Sequence[int], like: Tensor) -> Tensor:
    """Weights of some channels in their places among zeros."""
    whole = torch.zeros(like.shape, dtype=own.dtype)
    whole[:, reader.columns(stay)] = own
    return whole
