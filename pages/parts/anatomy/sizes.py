"""How large the boxes of a model's picture are, and what has room in them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.net.anatomy import INPUT, OUTPUT, Node

LETTER = 6.1  # pixels, on average


@dataclass(frozen=True)
class Size:
    """Width and height of boxes in pixels, and the room between columns (`gap`) and in a column (`lane`)."""

    layer: tuple[int, int]
    meeting: tuple[int, int]
    end: tuple[int, int]
    gap: int
    lane: int

    def of(self, node: Node) -> tuple[int, int]:
        return self.layer if node.layer else self.end if node.role in (INPUT, OUTPUT) else self.meeting


LARGE = Size((84, 46), (16, 16), (50, 34), 14, 8)
MEDIUM = Size((54, 30), (12, 12), (38, 22), 9, 6)
SMALL = Size((22, 26), (9, 9), (22, 18), 6, 4)
SIZES = (LARGE, MEDIUM, SMALL)
SLIM = (
    Size((54, 22), (10, 10), (38, 18), 9, 3),
    Size((20, 20), (7, 7), (14, 12), 5, 3),
)


def shortened(text: str, width: float) -> str:
    """The end of a text that has room in so many pixels; nothing where hardly any of it has.

    >>> shortened("encoder.layers.0", 60), shortened("fc1", 60), shortened("encoder", 20)
    ('…layers.0', 'fc1', '')
    """
    most = int(width / LETTER)
    if len(text) <= most:
        return text
    return f"…{text[1 - most :].lstrip('.')}" if most >= 5 else ""
