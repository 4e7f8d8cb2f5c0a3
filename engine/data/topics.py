"""The task `debian-topics`: which section of Debian a package belongs to, told from its one line.

Read from the frozen snapshot in assets/data/debian-topics, which `engine.data.debian` wrote.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import torch

from engine.data.pieces import Pieces
from engine.data.samples import Data, Samples

PIECES = 2048  # in the vocabulary
PLACES = 24  # word pieces of a text that a net reads: 6 texts in 1,000 have more
CLASSES = 15
PARTS = ("train", "validation", "test")


def vocabulary(folder: Path) -> Pieces:
    """The word pieces of the task, one a line."""
    return Pieces((folder / "pieces.txt").read_text().splitlines())


def read(folder: Path) -> Data:
    """Inputs (n, 24) int64: numbers of word pieces, 0 behind the last; labels are numbers of topics."""
    pieces = vocabulary(folder)
    classes = tuple(json.loads((folder / "classes.json").read_text()))
    content = lzma.decompress((folder / "lines.tsv.xz").read_bytes()).decode()
    rows = [line.split("\t", 2) for line in content.split("\n")[:-1]]
    train, validation, test = (
        _samples([(int(topic), text) for own, topic, text in rows if own == part], pieces) for part in PARTS
    )
    return Data("debian-topics", train, validation, test, classes)


def _samples(rows: list[tuple[int, str]], pieces: Pieces) -> Samples:
    inputs = torch.tensor([pieces.padded(text, PLACES) for _, text in rows])
    return Samples(inputs, torch.tensor([topic for topic, _ in rows]), texts=tuple(text for _, text in rows))
