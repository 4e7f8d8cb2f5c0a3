"""The columns and lines of a model's picture: how many steps from the input each node is; pure."""

from __future__ import annotations

from collections.abc import Mapping

from engine.net.anatomy import INPUT, Anatomy, Node

SPARE = 6  # boxes in a column of layers that the model does not use


def ranks(anatomy: Anatomy) -> dict[str, int]:
    """How many steps each node is from the input, at most; what reads nothing stands before its first reader.

    Layers that are not used stand behind all others.
    """
    found: dict[str, int] = {}
    feeding = anatomy.sources
    for node in anatomy.nodes:
        _rank(node.name, feeding, found)
    for edge in reversed(anatomy.edges):
        if not feeding[edge.source] and edge.source != INPUT:
            readers = [found[e.target] for e in anatomy.edges if e.source == edge.source]
            found[edge.source] = max(min(readers) - 1, 0)
    last = max((found[node.name] for node in anatomy.nodes if node.used), default=-1)
    for place, node in enumerate(n for n in anatomy.nodes if not n.used):
        found[node.name] = last + 1 + place // SPARE
    return found


def _rank(start: str, feeding: Mapping[str, tuple[str, ...]], found: dict[str, int]) -> None:
    """Ranks of a node and all that it depends on, without recursion: a model may have thousands of layers."""
    left = [start]
    while left:
        name = left[-1]
        missing = [source for source in feeding[name] if source not in found]
        if missing:
            left += missing
        else:
            found[name] = 1 + max((found[source] for source in feeding[name]), default=-1)
            left.pop()


def columns(anatomy: Anatomy) -> list[list[Node]]:
    """The nodes of each rank, those beside each other in the order of what feeds them."""
    rank, lanes = ranks(anatomy), dict[str, float]()
    found: list[list[Node]] = [[] for _ in range(1 + max(rank.values(), default=-1))]
    for node in anatomy.nodes:
        found[rank[node.name]].append(node)
    found = [column for column in found if column]
    for column in found:
        feeding = {node.name: [lanes[s] for s in anatomy.sources[node.name] if s in lanes] for node in column}
        column.sort(key=lambda n: sum(feeding[n.name]) / len(feeding[n.name]) if feeding[n.name] else 0.0)
        lanes.update({node.name: lane - len(column) / 2 for lane, node in enumerate(column)})
    return found


def lines(widths: list[int], crossing: list[int], across: float) -> list[range]:
    """Which columns each line holds; it ends where fewest values cross, if that wastes at most two fifths of it.

    `crossing` says how many values cross the place behind each column.

    >>> lines([40, 40, 40, 40], [2, 1, 2, 0], 130)
    [range(0, 2), range(2, 4)]
    """
    found, start = [], 0
    while start < len(widths):
        end, used = start, 0
        while end < len(widths) and (end == start or used + widths[end] <= across):
            used += widths[end]
            end += 1
        if end < len(widths):
            earliest = start + max(1, round(0.6 * (end - start)))
            end = min(range(earliest, end + 1), key=lambda stop: (crossing[stop - 1], -stop))
        found.append(range(start, end))
        start = end
    return found
