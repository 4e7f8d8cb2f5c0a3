"""Where the boxes of a model's picture stand, in pixels; pure. Values flow to the right, and on to the next line.

A column holds what is as many steps from the input, a line as many columns as fit. Neighbours are joined
straight; all else goes over the top of its line, and from line to line through the gutter between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.memory import remembered
from engine.net.anatomy import Anatomy, Node
from pages.parts.anatomy.columns import columns, lines
from pages.parts.anatomy.sizes import SIZES, SLIM, Size, shortened

TALL = 420  # pixels: where larger boxes need more, smaller ones are taken
TRACK, EDGE, LABEL = (
    5,
    4,
    15,
)  # pixels between lines over the top, between those at the margins, and for a heading


class Box(NamedTuple):
    """The box of a node: its left upper corner, and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def right(self) -> float:
        return self.x + self.width


class Path(NamedTuple):
    """An edge as corners of a line."""

    source: str
    target: str
    shortcut: bool
    points: tuple[tuple[float, float], ...]


class Heading(NamedTuple):
    """What layers that stand side by side have in common in their names: under them, as wide as they are."""

    text: str
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Layout:
    """All that is drawn, in a field of this size."""

    width: float
    height: float
    boxes: Mapping[str, Box]
    paths: tuple[Path, ...]
    headings: tuple[Heading, ...]


@remembered
def laid_out(anatomy: Anatomy, across: float) -> Layout:
    """The picture of a model in a field of this width, with the largest boxes that do not make it too tall."""
    return _first(lambda found: found.height <= TALL, (_Field(anatomy, across, size) for size in SIZES))


@remembered
def in_one_line(anatomy: Anatomy, across: float) -> Layout:
    """The picture in one line, with the largest boxes that fit into this width; wider where none do."""
    return _first(lambda found: found.width <= across, (_Field(anatomy, math.inf, size) for size in SLIM))


def _first(is_good: Callable[[Layout], bool], fields: Iterator[_Field]) -> Layout:
    """The first layout that is good; the last one where none is."""
    for field in fields:
        found = field.layout()
        if is_good(found):
            break
    return found


class _Field:
    """The field while boxes are put into it."""

    def __init__(self, anatomy: Anatomy, across: float, size: Size) -> None:
        self.anatomy, self.size, self.columns = anatomy, size, columns(anatomy)
        self.column = {node.name: i for i, column in enumerate(self.columns) for node in column}
        self.widths = [max(size.of(node)[0] for node in column) for column in self.columns]
        crossing = [0] * len(self.columns)
        for source in {edge.source for edge in anatomy.edges}:
            last = max(self.column[e.target] for e in anatomy.edges if e.source == source)
            for place in range(self.column[source], last):
                crossing[place] += 1
        steps = [width + size.gap for width in self.widths]
        self.margin = 2.0
        self.lines = lines(steps, crossing, across)
        if len(self.lines) > 1:
            self.margin = 10.0 + EDGE * 2
            self.lines = lines(steps, crossing, across - 2 * self.margin + size.gap)
        self.line = {column: number for number, row in enumerate(self.lines) for column in row}
        self.boxes: dict[str, Box] = {}
        self.tracks = self._tracks()
        self.entering = [self._entering(number) for number in range(len(self.lines))]

    def layout(self) -> Layout:
        y, headings = 0.0, list[Heading]()
        self.left = [0.0] * len(self.columns)
        self.gutters, self.tops = list[float](), list[float]()
        for number, row in enumerate(self.lines):
            self.gutters.append(y + EDGE)
            y += EDGE * (len(self.entering[number]) + 2) if self.entering[number] else 1
            over = 1 + max((t for (at, *_), t in self.tracks.items() if at == number), default=-1)
            y += TRACK * over + (3 if over else 0)
            self.tops.append(y)
            tall = self._fill(row, y)
            told = list(self._headings(row, y + tall + 3))
            headings += told
            y += tall + (LABEL if told else 0) + 3
        wide = max((box.right for box in self.boxes.values()), default=0.0) + self.margin
        self.wide = wide
        paths = tuple(Path(*edge, self._points(edge.source, edge.target)) for edge in self.anatomy.edges)
        return Layout(wide, y, self.boxes, paths, tuple(headings))

    def _fill(self, row: range, top: float) -> float:
        """Put the boxes of a line into the field, each column around the line's middle; how tall it is."""
        tall = max(self._tall(column) for column in row)
        x = self.margin
        for column in row:
            self.left[column] = x
            y = top + (tall - self._tall(column)) / 2
            for node in self.columns[column]:
                width, height = self.size.of(node)
                self.boxes[node.name] = Box(x + (self.widths[column] - width) / 2, y, width, height)
                y += height + self.size.lane
            x += self.widths[column] + self.size.gap
        return tall

    def _tall(self, column: int) -> int:
        nodes = self.columns[column]
        return sum(self.size.of(node)[1] for node in nodes) + self.size.lane * (len(nodes) - 1)

    def _headings(self, row: range, y: float) -> Iterator[Heading]:
        """A heading for each run of columns whose layers have the same name before the last dot."""
        runs: list[tuple[str, list[int]]] = []
        for column in row:
            prefixes = {_prefix(node) for node in self.columns[column]}
            prefix = prefixes.pop() if len(prefixes) == 1 else ""
            if runs and runs[-1][0] == prefix:
                runs[-1][1].append(column)
            else:
                runs.append((prefix, [column]))
        for prefix, of in runs:
            x, end = self.left[of[0]], self.left[of[-1]] + self.widths[of[-1]]
            if text := shortened(prefix, end - x + self.size.gap):
                yield Heading(text, x, y, end - x)

    # -------- edges

    def _is_straight(self, source: str, target: str) -> bool:
        return self.column[target] == self.column[source] + 1 and self._same_line(source, target)

    def _same_line(self, source: str, target: str) -> bool:
        return self.line[self.column[source]] == self.line[self.column[target]]

    def _entering(self, number: int) -> list[str]:
        """Whose values come to a line from above."""
        found = [
            e.source
            for e in self.anatomy.edges
            if self.line[self.column[e.target]] == number and not self._same_line(e.source, e.target)
        ]
        return list(dict.fromkeys(found))

    def _spans(self) -> Iterator[tuple[int, str, str, int, int]]:
        """What goes over the top of a line: its number, source and target of the edge, first and last column."""
        for source, target, _ in self.anatomy.edges:
            first, last = self.column[source], self.column[target]
            start, end = self.line[first], self.line[last]
            if start == end:
                if last != first + 1:
                    yield start, source, target, first, last
                continue
            if first != self.lines[start][-1]:
                yield start, source, target, first, self.lines[start].stop
            if last != self.lines[end][0]:
                yield end, source, target, self.lines[end].start - 1, last

    def _tracks(self) -> dict[tuple[int, str, str], int]:
        """Over the top of a line short ways lie low, and none lies on another; those of one source may."""
        taken: dict[tuple[int, int], list[tuple[str, int, int]]] = {}
        found = {}
        for number, source, target, first, last in sorted(self._spans(), key=lambda s: (s[4] - s[3], s[3])):
            track = 0
            while any(
                other != source and first < end and start < last
                for other, start, end in taken.get((number, track), ())
            ):
                track += 1
            taken.setdefault((number, track), []).append((source, first, last))
            found[number, source, target] = track
        return found

    def _points(self, source: str, target: str) -> tuple[tuple[float, float], ...]:
        start, end = self.boxes[source], self.boxes[target]
        if self._is_straight(source, target):
            ahead = self.left[self.column[target]]
            behind = ahead - self.size.gap
            rows = start.middle[1], end.middle[1]
            return _slim([(start.right, rows[0]), (behind, rows[0]), (ahead, rows[1]), (end.x, rows[1])])
        if self._same_line(source, target):
            return _slim([*self._rise(source, target, 1), *reversed(self._rise(target, source, -1, source))])
        return _slim([*self._leave(source, target), *self._enter(source, target)])

    def _rise(self, name: str, other: str, side: int, source: str = "") -> list[tuple[float, float]]:
        """From a box to the track over its line: from its top, or beside it where boxes are above it."""
        box, column = self.boxes[name], self.column[name]
        edge = (source or name, name if source else other)
        y = self.tops[self.line[column]] - 3 - TRACK * self.tracks[self.line[column], *edge]
        if self.columns[column][0].name == name:
            return [(box.middle[0], box.y), (box.middle[0], y)]
        beside = self.left[column] + (self.widths[column] if side > 0 else 0) + side * self.size.gap / 2
        return [(box.right if side > 0 else box.x, box.middle[1]), (beside, box.middle[1]), (beside, y)]

    def _leave(self, source: str, target: str) -> list[tuple[float, float]]:
        """From a box to the right margin, and down to the gutter above the target's line."""
        number = self.line[self.column[target]]
        place = self.entering[number].index(source)
        x, down = self.wide - self.margin + 5 + EDGE * min(place, 2), self.gutters[number] + EDGE * place
        box, column = self.boxes[source], self.column[source]
        if column == self.lines[self.line[column]][-1]:
            way = [(box.right, box.middle[1]), (x, box.middle[1])]
        else:
            rise = self._rise(source, target, 1)
            way = [*rise, (x, rise[-1][1])]
        return [*way, (x, down)]

    def _enter(self, source: str, target: str) -> list[tuple[float, float]]:
        """Through the gutter to the left margin, and on to the target's box."""
        column = self.column[target]
        number = self.line[column]
        place = self.entering[number].index(source)
        x, y = self.margin - 5 - EDGE * min(place, 2), self.gutters[number] + EDGE * place
        box = self.boxes[target]
        if column == self.lines[number][0]:
            return [(x, y), (x, box.middle[1]), (box.x, box.middle[1])]
        rise = self._rise(target, source, -1, source)
        return [(x, y), (x, rise[-1][1]), *reversed(rise)]


def _slim(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The corners without those that lie on another, or on the way between their neighbours."""
    found: list[tuple[float, float]] = []
    for point in points:
        if found and found[-1] == point:
            continue
        if len(found) > 1 and (found[-2][1] == found[-1][1] == point[1]):
            found[-1] = point
        else:
            found.append(point)
    return tuple(found)


def _prefix(node: Node) -> str:
    return node.name.rpartition(".")[0] if node.layer else ""
