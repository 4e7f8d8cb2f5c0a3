"""Makes the task `debian-topics` from what apt knows: one-line descriptions, and the section of each.

Lines of packages that are built from one source resemble each other ("... (data files)"), so all of them are
in the same part, and validation and test have one line of each source: their samples are independent.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.pieces import learn
from engine.data.samples import SPLIT_SEED
from engine.data.topics import PIECES
from engine.types import SlimscopeError

# Debian's section -> what a page calls it
TOPICS = {
    "admin": "administration",
    "database": "databases",
    "editors": "editors",
    "fonts": "fonts",
    "games": "games",
    "graphics": "graphics",
    "mail": "mail",
    "math": "mathematics",
    "net": "network",
    "science": "science",
    "sound": "sound",
    "text": "text",
    "video": "video",
    "web": "web",
    "x11": "desktop",
}
SHARES = {"test": 0.20, "validation": 0.12}  # of the sources of a topic; the others are for training
EMPTY = re.compile(r"\b(transitional|dummy)\b", re.IGNORECASE)  # packages without a content of their own


@dataclass(frozen=True)
class Line:
    """A package's one-line description."""

    package: str
    source: str
    section: str
    text: str


def available(archive: Path | None = None) -> str:
    """What `apt-cache dumpavail` prints here; `archive` is a copy of such a text."""
    if archive is not None:
        return archive.read_text(encoding="utf-8")
    apt = shutil.which("apt-cache")
    if apt is None:
        raise SlimscopeError("apt-cache is missing: it is needed to make this task (not to run slimscope)")
    done = subprocess.run([apt, "dumpavail"], capture_output=True, check=True)
    return done.stdout.decode("utf-8")


def write(text: str, folder: Path) -> None:
    """Lines, topics and word pieces of the task, from a text as `available` gives it."""
    parts = split(lines(text))
    numbers = {section: number for number, section in enumerate(TOPICS)}
    rows = [
        f"{part}\t{numbers[line.section]}\t{line.text}\n" for part, found in parts.items() for line in found
    ]
    content = "".join(rows).encode()
    (folder / "lines.tsv.xz").write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    (folder / "classes.json").write_text(json.dumps(list(TOPICS.values())) + "\n")
    pieces = learn((line.text for line in parts["train"]), PIECES)
    (folder / "pieces.txt").write_text("\n".join(pieces) + "\n")
    counts = ", ".join(f"{len(found):,} {part}" for part, found in parts.items())
    print(f"{counts}; sha256 of all lines {hashlib.sha256(content).hexdigest()}")


def lines(text: str) -> list[Line]:
    """The lines of the topics' packages, by package; a text that occurs again is left out, and so are
    packages that only lead to others, and those of no Debian archive, which have no `Description-md5`.

    >>> lines("Package: joe\\nSection: editors\\nDescription: small editor\\nDescription-md5: 1\\n")
    [Line(package='joe', source='joe', section='editors', text='small editor')]
    """
    found: dict[str, Line] = {}
    for line in sorted(_lines(text), key=lambda line: line.package):
        if not EMPTY.search(line.text):
            found.setdefault(line.text.lower(), line)
    return sorted(found.values(), key=lambda line: line.package)


def _lines(text: str) -> Iterator[Line]:
    for record in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.splitlines() if re.match(r"[\w-]+: ", line))
        if "Description-md5" in fields and fields.get("Section") in TOPICS:
            package = fields["Package"]
            source = fields.get("Source", package).partition(" ")[0]
            yield Line(package, source, fields["Section"], " ".join(fields["Description"].split()))


def split(found: list[Line]) -> Mapping[str, list[Line]]:
    """Train, validation and test, each topic in its share of sources."""
    sources: dict[str, list[Line]] = {}
    for line in found:
        sources.setdefault(line.source, []).append(line)
    rng = np.random.Generator(np.random.PCG64(SPLIT_SEED))
    parts: dict[str, list[Line]] = {"train": [], "validation": [], "test": []}
    for section in TOPICS:
        own = [source for source in sorted(sources) if sources[source][0].section == section]
        order, start = [own[place] for place in rng.permutation(len(own))], 0
        for part, share in SHARES.items():
            stop = start + round(share * len(own))
            parts[part] += [sources[source][0] for source in order[start:stop]]
            start = stop
        parts["train"] += [line for source in order[start:] for line in sources[source]]
    return {part: sorted(rows, key=lambda line: line.package) for part, rows in parts.items()}
