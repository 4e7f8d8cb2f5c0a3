"""The graph of a model: layers and places where values meet are nodes, an edge says who feeds whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

Shape = tuple[int, ...]
INPUT, OUTPUT, LAYER = "input", "output", "layer"
SUM, CONCATENATION, PRODUCT, MEETING = "sum", "concatenation", "product", "meeting"  # of several values


@dataclass(frozen=True)
class Node:
    """A layer's weight, the model's input or output, or a place where values meet; `role` says which.

    `layer` is the label of the weight as `engine.types.weight_layers` has it, "" where there is none. It
    differs from `name` where one tensor has two names: then `weights` is 0, they are counted at the other.
    `kind` is the role in plain words, `output` a shape without the batch. `macs` are multiply-adds at batch
    1, None where they can't be counted. `loops`: it reads what it made itself; `used`: the run passed it.
    """

    name: str
    role: str
    kind: str
    output: Shape = ()
    layer: str = ""
    weights: int = 0
    macs: int | None = None
    loops: bool = False
    used: bool = True


class Edge(NamedTuple):
    """One node feeds another; a shortcut goes past layers that the same value also passes through."""

    source: str
    target: str
    shortcut: bool = False


@dataclass(frozen=True)
class Anatomy:
    """All nodes in the order of use, all edges, and in `note` what is not known of them, in a sentence."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    note: str = ""

    @property
    def layers(self) -> tuple[Node, ...]:
        """The nodes that stand for weights."""
        return tuple(node for node in self.nodes if node.layer)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @cached_property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """Who feeds each node."""
        found: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for edge in self.edges:
            found[edge.target].append(edge.source)
        return {name: tuple(feeding) for name, feeding in found.items()}


@dataclass
class Graph:
    """A graph in the making. Edges never close a circle: a node that would feed itself loops instead."""

    nodes: dict[str, Node] = field(default_factory=dict)
    feeds: dict[str, dict[str, None]] = field(default_factory=dict)  # node -> its sources, in order

    def add(self, node: Node, sources: Iterable[str]) -> None:
        """Add a node, or more sources of one that is known."""
        is_new = node.name not in self.nodes
        known = self.nodes.setdefault(node.name, node)
        own = self.feeds.setdefault(node.name, {})
        for source in sources:
            if not is_new and (source == node.name or self.reaches(node.name, source)):
                self.nodes[node.name] = replace(known, loops=True)
            else:
                own[source] = None

    def reaches(self, start: str, end: str) -> bool:
        """Whether what `start` makes is in what `end` gets."""
        seen, left = {end}, [end]
        while left:
            for source in self.feeds.get(left.pop(), ()):
                if source == start:
                    return True
                if source not in seen:
                    seen.add(source)
                    left.append(source)
        return False

    def meeting(self, role: str, kind: str, sources: Iterable[str], output: Shape) -> str:
        """The name of the node where these meet; the same values meet once."""
        wanted = dict.fromkeys(sources)
        for name, node in self.nodes.items():
            if node.role == role and self.feeds[name].keys() == wanted.keys():
                return name
        name = f"{role} {1 + sum(node.role == role for node in self.nodes.values())}"
        self.add(Node(name, role, kind, output), wanted)
        return name

    def done(self, note: str = "") -> Anatomy:
        """The graph without meetings whose value nobody reads."""
        while dead := self._unread():
            for name in dead:
                del self.nodes[name], self.feeds[name]
        edges = tuple(
            Edge(source, target, self._is_shortcut(source, target))
            for target in self.nodes
            for source in self.feeds[target]
        )
        return Anatomy(tuple(self.nodes.values()), edges, note)

    def _unread(self) -> list[str]:
        read = {source for sources in self.feeds.values() for source in sources}
        meets = (SUM, CONCATENATION, PRODUCT, MEETING)
        return [name for name, node in self.nodes.items() if node.role in meets and name not in read]

    def _is_shortcut(self, source: str, target: str) -> bool:
        return any(self.reaches(source, other) for other in self.feeds[target] if other != source)


def chain(nodes: Iterable[Node], note: str) -> Anatomy:
    """The nodes one after another."""
    row = tuple(nodes)
    edges = (Edge(one.name, other.name) for one, other in pairwise(row))
    return Anatomy(row, tuple(edges), note)


def with_counts(
    anatomy: Anatomy, weights: Mapping[str, int], macs: Mapping[tuple[str, str], int] | None
) -> Anatomy:
    """The same graph with what is counted: weights by layer, multiply-adds by (name, layer) of a node."""
    nodes = []
    for node in anatomy.nodes:
        if node.layer:
            own = weights.get(node.layer, 0) if node.layer == node.name else 0
            node = replace(
                node, weights=own, macs=None if macs is None else macs.get((node.name, node.layer), 0)
            )
        nodes.append(node)
    return replace(anatomy, nodes=tuple(nodes))
