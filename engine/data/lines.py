"""Tasks of short texts with a class each: how they are split, kept in assets/data, and read.

Texts of one source resemble each other, so all of them are in the same part, and validation and test have
one text of each source: their samples are independent.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.data.pieces import Pieces, learn
from engine.data.samples import SPLIT_SEED, Data, Samples

PARTS = ("train", "validation", "test")
SHARES = {"test": 0.20, "validation": 0.12}  # of the sources of a class; the others are for training


@dataclass(frozen=True)
class Line:
    """A text: its name, its source, its class, and what it says, in one line."""

    name: str
    source: str
    section: str
    text: str


def vocabulary(folder: Path) -> Pieces:
    """The word pieces of the task in a folder, one a line."""
    return Pieces((folder / "pieces.txt").read_text().splitlines())


def read(name: str, folder: Path, places: int, pieces: Pieces | None = None) -> Data:
    """Inputs (n, places) int64: numbers of word pieces, 0 behind the last; labels are numbers of classes.

    The pieces are the task's own, or others that are given.
    """
    pieces = pieces or vocabulary(folder)
    classes = tuple(json.loads((folder / "classes.json").read_text()))
    content = lzma.decompress((folder / "lines.tsv.xz").read_bytes()).decode()
    rows = [line.split("\t", 2) for line in content.split("\n")[:-1]]

    def samples(part: str) -> Samples:
        own = [(int(number), text) for of, number, text in rows if of == part]
        inputs = torch.tensor([pieces.padded(text, places) for _, text in own])
        labels = torch.tensor([number for number, _ in own])
        return Samples(inputs, labels, texts=tuple(text for _, text in own))

    train, validation, test = map(samples, PARTS)
    return Data(name, train, validation, test, classes, pieces=pieces)


def write(found: Sequence[Line], classes: Mapping[str, str], folder: Path, size: int) -> None:
    """Split texts and keep them, their classes (section -> title) and `size` word pieces of train."""
    parts = split(found, classes)
    numbers = {section: number for number, section in enumerate(classes)}
    rows = [f"{part}\t{numbers[line.section]}\t{line.text}\n" for part, own in parts.items() for line in own]
    content = "".join(rows).encode()
    (folder / "lines.tsv.xz").write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    (folder / "classes.json").write_text(json.dumps(list(classes.values())) + "\n")
    pieces = learn((line.text for line in parts["train"]), size)
    (folder / "pieces.txt").write_text("\n".join(pieces) + "\n")
    counts = ", ".join(f"{len(own):,} {part}" for part, own in parts.items())
    print(f"{counts}; sha256 of all lines {hashlib.sha256(content).hexdigest()}")


def split(found: Sequence[Line], classes: Mapping[str, str]) -> Mapping[str, list[Line]]:
    """Train, validation and test, each class in its share of sources."""
    sources: dict[str, list[Line]] = {}
    for line in found:
        sources.setdefault(line.source, []).append(line)
    rng = np.random.Generator(np.random.PCG64(SPLIT_SEED))
    parts: dict[str, list[Line]] = {part: [] for part in PARTS}
    for section in classes:
        own = [source for source in sorted(sources) if sources[source][0].section == section]
        order, start = [own[place] for place in rng.permutation(len(own))], 0
        for part, share in SHARES.items():
            stop = start + round(share * len(own))
            parts[part] += [sources[source][0] for source in order[start:stop]]
            start = stop
        parts["train"] += [line for source in order[start:] for line in sources[source]]
    return {part: sorted(rows, key=lambda line: line.name) for part, rows in parts.items()}
