"""The task `debian-topics`: which section of Debian a package belongs to, told from its one line.

Read from the frozen snapshot in assets/data/debian-topics, which `engine.data.debian` wrote.
"""

from __future__ import annotations

from pathlib import Path

from engine.data import lines
from engine.data.framed import Framed
from engine.data.samples import Data

PIECES = 2048  # in the vocabulary
PLACES = 24  # word pieces of a text that a net reads: 6 texts in 1,000 have more
CLASSES = 15
FRAMED = 30_522  # word pieces of MiniLM


def read(folder: Path) -> Data:
    """Inputs (n, 24) int64: numbers of word pieces, 0 behind the last; labels are numbers of topics."""
    return lines.read("debian-topics", folder, PLACES)


def read_framed(folder: Path) -> Data:
    """The same texts in the same order, in MiniLM's word pieces: what a net reads stands in a frame."""
    return lines.read("debian-topics-minilm", folder, PLACES, framed(folder))


def framed(folder: Path) -> Framed:
    """MiniLM's own vocabulary, which is BERT's."""
    return Framed((folder / "minilm-pieces.txt").read_text().splitlines())
